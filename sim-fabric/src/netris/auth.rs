//! Sessions. Both generations of clients log in: the older one posts a form without a Content-Type, the newer
//! one JSON; both replay the cookie `connect.sid`. Also the API's faults, which need no engine.

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{AppendHeaders, IntoResponse},
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Netris,
    envelope::{Answer, Failure, Reply},
};
use crate::fault::Dice;

const COOKIE: &str = "connect.sid";
/// Sessions at once; the one that was idle longest makes room.
const SESSIONS_MAX: usize = 1024;
const IDLE_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Never shown, whoever asks.
#[derive(Clone)]
pub(super) struct Password(Arc<str>);

impl Password {
    pub(super) fn new(password: &str) -> Password {
        Password(password.into())
    }

    /// Compares every byte, so that the time tells no prefix.
    fn is(&self, other: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), other.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

type ApiFault = Box<dyn FnMut(&str, &str) -> Option<u16> + Send>;

/// What the API remembers by itself: sessions (by their last use) and faults.
pub(crate) struct Api {
    pub(crate) sessions: BTreeMap<String, jiff::Timestamp>,
    dice: Dice,
    faults: Vec<(u64, ApiFault)>,
    faults_made: u64,
}

impl Api {
    pub(crate) fn new(seed: u64) -> Api {
        // Other numbers than the fault rules draw from the same seed.
        Api {
            sessions: BTreeMap::new(),
            dice: Dice::new(!seed),
            faults: Vec::new(),
            faults_made: 0,
        }
    }

    pub(crate) fn add_fault(&mut self, fault: ApiFault) -> u64 {
        self.faults_made += 1;
        self.faults.push((self.faults_made, fault));
        self.faults_made
    }

    pub(crate) fn remove_fault(&mut self, id: u64) -> Option<ApiFault> {
        let at = self.faults.iter().position(|(other, _)| *other == id)?;
        Some(self.faults.remove(at).1)
    }

    pub(super) fn judge(&mut self, method: &str, path: &str) -> Option<u16> {
        self.faults.iter_mut().find_map(|(_, fault)| fault(method, path))
    }

    fn open(&mut self, now: jiff::Timestamp) -> String {
        if self.sessions.len() >= SESSIONS_MAX
            && let Some(idlest) = self
                .sessions
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(id, _)| id.clone())
        {
            self.sessions.remove(&idlest);
        }
        let id = format!("s%3A{:016x}{:016x}", self.dice.next_u64(), self.dice.next_u64());
        self.sessions.insert(id.clone(), now);
        id
    }

    fn renew(&mut self, id: &str, now: jiff::Timestamp) -> bool {
        match self.sessions.get_mut(id) {
            Some(at) if now.duration_since(*at) <= IDLE_MAX => {
                *at = now;
                true
            }
            Some(_) => {
                self.sessions.remove(id);
                false
            }
            None => false,
        }
    }
}

/// The live session that a request belongs to.
pub(super) fn session_of(netris: &Netris, headers: &HeaderMap) -> Option<String> {
    let now = netris.fabric.now();
    let cookies = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut api = netris.fabric.api();
    let mut ids = pairs
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, id)| id.to_owned());
    ids.find(|id| api.renew(id, now))
}

pub(super) async fn log_in(State(netris): State<Netris>, body: Bytes) -> Result<impl IntoResponse, Failure> {
    let login = Login::parse(&body)?;
    if login.user != *netris.user || !netris.password.is(&login.password) {
        tracing::info!(user = %login.user, "login refused");
        return Err(Failure::unauthorized("user or password is wrong"));
    }
    let now = netris.fabric.now();
    let id = netris.fabric.api().open(now);
    // No Secure attribute: the same router may be served without TLS on loopback.
    let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Lax");
    Ok((
        AppendHeaders([(header::SET_COOKIE, cookie)]),
        Answer::new(json!({ "user": login.user })),
    ))
}

pub(super) async fn check(State(netris): State<Netris>, headers: HeaderMap) -> Reply {
    match session_of(&netris, &headers) {
        Some(_) => Ok(Answer::new(json!({ "user": &*netris.user }))),
        None => Err(Failure::unauthorized("not logged in")),
    }
}

pub(super) async fn log_out(State(netris): State<Netris>, headers: HeaderMap) -> Answer {
    if let Some(id) = session_of(&netris, &headers) {
        netris.fabric.api().sessions.remove(&id);
    }
    Answer::done("Logged out")
}

struct Login {
    user: String,
    password: String,
}

impl Login {
    fn parse(body: &Bytes) -> Result<Login, Failure> {
        let fields: BTreeMap<String, String> = if body.trim_ascii_start().starts_with(b"{") {
            let Value::Object(object) = super::envelope::body(body)? else {
                return Err(Failure::invalid("the body is no object"));
            };
            let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            object
                .into_iter()
                .map(|(name, value)| (name, text(value)))
                .collect()
        } else {
            form(body)
        };
        let field = |name: &str| fields.get(name).cloned();
        let (Some(user), Some(password)) = (field("user"), field("password")) else {
            return Err(Failure::invalid(
                "user, password: both are needed, as JSON or as a form",
            ));
        };
        // 1 is the local database; 0 stands for it in newer clients.
        match field("auth_scheme_id")
            .or_else(|| field("authSchemeID"))
            .as_deref()
        {
            None | Some("0" | "1") => Ok(Login { user, password }),
            Some(other) => Err(Failure::invalid(format!(
                "auth_scheme_id: {other} is unknown; use 1"
            ))),
        }
    }
}

/// `a=b&c=d%20e`, as HTML forms are sent.
fn form(body: &[u8]) -> BTreeMap<String, String> {
    let pairs = body.split(|byte| *byte == b'&').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((unescape(&pair[..at]), unescape(&pair[at + 1..])))
    });
    pairs.collect()
}

fn unescape(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match first {
            b'+' => plain.push(b' '),
            b'%' => match after.get(..2).and_then(hex) {
                Some(byte) => {
                    plain.push(byte);
                    rest = &after[2..];
                }
                None => plain.push(b'%'),
            },
            other => plain.push(*other),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_logins() {
        // body -> user and password, or none
        let table = [
            (
                "user=netris&password=p%40s+s%&auth_scheme_id=1",
                Some(("netris", "p@s s%")),
            ),
            (
                r#"{"user":"netris","password":"p","auth_scheme_id":1}"#,
                Some(("netris", "p")),
            ),
            (
                r#" {"user":"netris","password":"p","authSchemeID":0}"#,
                Some(("netris", "p")),
            ),
            (r#"{"user":"netris","password":"p"}"#, Some(("netris", "p"))),
            (r#"{"user":"netris","password":"p","auth_scheme_id":7}"#, None),
            (r#"{"user":"netris"}"#, None),
            ("{", None),
            ("", None),
        ];
        for (body, want) in table {
            let got = Login::parse(&Bytes::from(body))
                .ok()
                .map(|login| (login.user, login.password));
            assert_eq!(got, want.map(|(u, p)| (u.to_owned(), p.to_owned())), "{body}");
        }
    }

    #[test]
    fn sessions_end_by_idleness_and_by_number() {
        let mut api = Api::new(0);
        let at = |s: i64| jiff::Timestamp::from_second(s).unwrap();
        let first = api.open(at(0));
        assert!(api.renew(&first, at(3600)));
        assert!(!api.renew(&first, at(7201)));
        assert!(!api.renew("s%3Ainvented", at(0)));
        let oldest = api.open(at(8000));
        for n in 0..SESSIONS_MAX as i64 {
            api.open(at(8001 + n));
        }
        assert_eq!(api.sessions.len(), SESSIONS_MAX);
        assert!(!api.renew(&oldest, at(8001)));
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(format!("{:?}", Password::new("hunter2")), "Password(..)");
        assert!(Password::new("a").is("a") && !Password::new("a").is("ab") && !Password::new("a").is("b"));
    }
}

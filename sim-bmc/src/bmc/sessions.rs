//! Login sessions: tokens, idle timeout, revocation. Only digests of tokens are kept.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::accounts::AccountId;
use super::dice::Dice;

pub(crate) type SessionId = u32;

/// SessionService.SessionTimeout's range, from its schema (`Validation.Minimum` and `Maximum`).
pub(crate) const TIMEOUT_SECONDS: std::ops::RangeInclusive<i64> = 30..=86_400;
const DEFAULT_TIMEOUT_SECONDS: i64 = 1800;

pub(crate) struct Session {
    token: [u8; 32],
    pub(crate) account: AccountId,
    pub(crate) user_name: String,
    pub(crate) created: Timestamp,
    last_used: Timestamp,
}

pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    by_token: BTreeMap<[u8; 32], SessionId>,
    next: SessionId,
    limit: usize,
    timeout_seconds: i64,
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Sessions {
    pub(crate) fn new(limit: usize) -> Sessions {
        Sessions {
            by_id: BTreeMap::new(),
            by_token: BTreeMap::new(),
            next: 1,
            limit,
            timeout_seconds: DEFAULT_TIMEOUT_SECONDS,
        }
    }

    pub(crate) fn timeout_seconds(&self) -> i64 {
        self.timeout_seconds
    }

    pub(crate) fn set_timeout_seconds(&mut self, seconds: i64) {
        self.timeout_seconds = seconds;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    /// Opens a session and returns its id and its token, which nobody can ask for again. `None` if there are too many.
    pub(crate) fn open(
        &mut self,
        account: AccountId,
        user_name: &str,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Option<(SessionId, String)> {
        if self.by_id.len() >= self.limit {
            return None;
        }
        let token = dice.token();
        let id = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        let hashed = digest(&token);
        let session = Session {
            token: hashed,
            account,
            user_name: user_name.to_owned(),
            created: now,
            last_used: now,
        };
        self.by_token.insert(hashed, id);
        self.by_id.insert(id, session);
        Some((id, token))
    }

    /// Whose token this is; using it keeps the session alive.
    pub(crate) fn resume(&mut self, token: &str, now: Timestamp) -> Option<AccountId> {
        let id = *self.by_token.get(&digest(token))?;
        let session = self.by_id.get_mut(&id)?;
        session.last_used = now;
        Some(session.account)
    }

    pub(crate) fn close(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.remove(&id) {
            self.by_token.remove(&session.token);
        }
    }

    pub(crate) fn close_of(&mut self, account: AccountId) {
        self.close_where(|session| session.account == account);
    }

    pub(crate) fn close_all(&mut self) {
        self.close_where(|_| true);
    }

    /// Ends sessions that were idle for longer than the timeout.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let timeout = SignedDuration::from_secs(self.timeout_seconds);
        self.close_where(|session| now.duration_since(session.last_used) > timeout);
    }

    fn close_where(&mut self, ends: impl Fn(&Session) -> bool) {
        let by_token = &mut self.by_token;
        self.by_id.retain(|_, session| {
            let end = ends(session);
            if end {
                by_token.remove(&session.token);
            }
            !end
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn use_keeps_a_session_and_idleness_ends_it() {
        let mut sessions = Sessions::new(2);
        let mut dice = Dice::new(1, b"");
        sessions.set_timeout_seconds(60);
        let (_, token) = sessions.open(7, "root", &mut dice, at(0)).unwrap();
        sessions.expire(at(50));
        assert_eq!(sessions.resume(&token, at(50)), Some(7));
        sessions.expire(at(110));
        assert_eq!(sessions.resume(&token, at(110)), Some(7));
        sessions.expire(at(171));
        assert_eq!(sessions.resume(&token, at(171)), None);
        assert_eq!(sessions.iter().count(), 0);
    }

    #[test]
    fn closing_revokes_the_token() {
        let mut sessions = Sessions::new(2);
        let mut dice = Dice::new(1, b"");
        let (id, token) = sessions.open(7, "root", &mut dice, at(0)).unwrap();
        let (_, other) = sessions.open(8, "guest", &mut dice, at(0)).unwrap();
        assert!(sessions.open(9, "more", &mut dice, at(0)).is_none(), "limit");
        sessions.close(id);
        assert_eq!(sessions.resume(&token, at(1)), None);
        sessions.close_of(8);
        assert_eq!(sessions.resume(&other, at(1)), None);
    }
}

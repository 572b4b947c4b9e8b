//! Who asks, and what they may do (DSP0266 "Security details"; privilege registry Redfish_1.8.0).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, StatusCode, header};
use jiff::Timestamp;

use super::failure::Failure;
use super::message::Message;
use super::route::{Found, Owner, Scene};
use crate::bmc::{AccountId, Bmc, Privilege, Request, RoleId};

pub(crate) struct Principal {
    pub(crate) account: AccountId,
    pub(crate) role: RoleId,
    must_change: bool,
}

impl Principal {
    pub(crate) fn has(&self, any_of: &[Privilege]) -> bool {
        any_of
            .iter()
            .any(|privilege| self.role.privileges().contains(privilege))
    }
}

/// Finds out who asks; without any credentials nothing is counted against an account. A token that is wrong fails even if a password beside it is right.
pub(super) fn authenticate(
    bmc: &mut Bmc,
    request: &Request,
    path: &str,
    now: Timestamp,
) -> Result<Principal, Failure> {
    let headers = request.headers();
    let account = if let Some(token) = headers.get("x-auth-token") {
        let token = token.to_str().map_err(|_| Failure::unauthorized())?;
        bmc.sessions
            .resume(token, now)
            .ok_or_else(Failure::unauthorized)?
    } else {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| basic(value.to_str().ok()?));
        let (user, password) = given.ok_or_else(Failure::unauthorized)?;
        let account = bmc.accounts.verify(&user, &password, now);
        if account.is_none() {
            tracing::debug!(path, user, "login refused");
        }
        account.ok_or_else(Failure::unauthorized)?
    };
    match bmc.accounts.get(account) {
        Some(found) if found.enabled => Ok(Principal {
            account,
            role: found.role,
            must_change: found.must_change,
        }),
        _ => Err(Failure::unauthorized()),
    }
}

fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Whether the principal may use this method on this resource.
pub(super) fn authorise(
    scene: &Scene<'_>,
    who: &Principal,
    method: &Method,
    found: &Found<'_>,
) -> Result<(), Failure> {
    let owner = found.owner(scene);
    let own = match owner {
        Some(Owner::Account(id)) => id == who.account,
        Some(Owner::Session(id)) => scene
            .bmc
            .sessions
            .get(id)
            .is_some_and(|session| session.account == who.account),
        None => false,
    };
    if who.must_change {
        // Only the way out is open: read and PATCH the own account, end the own session.
        let way_out = match owner {
            Some(Owner::Account(_)) => own && method != Method::DELETE,
            Some(Owner::Session(_)) => own && method == Method::DELETE,
            None => false,
        };
        if !way_out {
            let uri = super::tree::account_uri(who.account);
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                Message::password_change_required(&uri),
            ));
        }
    }
    let reading = method == Method::GET || method == Method::HEAD;
    let needed = if reading {
        found.access().read
    } else {
        found.access().write
    };
    let by_owning = own && who.has(&[Privilege::ConfigureSelf]) && found.access().own_allows(method);
    if by_owning || who.has(needed) {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

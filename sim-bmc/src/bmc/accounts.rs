//! Local accounts: who may log in, with which role. Passwords are held as salted digests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::dice::Dice;
use super::secret::{Password, same};

pub(crate) type AccountId = u32;

/// Wrong passwords in a row until an account is locked, and for how long: what OpenBMC ships as its hardening advice.
pub(crate) const LOCKOUT_THRESHOLD: u32 = 10;
pub(crate) const LOCKOUT_SECONDS: i64 = 300;
pub(crate) const MIN_PASSWORD: usize = 8;
pub(crate) const MAX_PASSWORD: usize = 64;
/// DSP0266 gives no limit; 64 keeps names within every client's form field.
pub(crate) const MAX_USER_NAME: usize = 64;

/// The roles that DSP0266 section "Roles" demands; there are no custom ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RoleId {
    Administrator,
    Operator,
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Privilege {
    Login,
    ConfigureManager,
    ConfigureUsers,
    ConfigureComponents,
    ConfigureSelf,
}

impl RoleId {
    pub(crate) const ALL: [RoleId; 3] = [RoleId::Administrator, RoleId::Operator, RoleId::ReadOnly];

    pub(crate) fn name(self) -> &'static str {
        match self {
            RoleId::Administrator => "Administrator",
            RoleId::Operator => "Operator",
            RoleId::ReadOnly => "ReadOnly",
        }
    }

    pub(crate) fn privileges(self) -> &'static [Privilege] {
        use Privilege::{ConfigureComponents, ConfigureManager, ConfigureSelf, ConfigureUsers, Login};
        match self {
            RoleId::Administrator => &[
                Login,
                ConfigureManager,
                ConfigureUsers,
                ConfigureComponents,
                ConfigureSelf,
            ],
            RoleId::Operator => &[Login, ConfigureComponents, ConfigureSelf],
            RoleId::ReadOnly => &[Login, ConfigureSelf],
        }
    }
}

/// SHA-256 of salt and password. One round: an emulator verifies it on every request of thousands of BMCs, and guards
/// nothing but simulated servers.
#[derive(Clone)]
struct Digested {
    salt: [u8; 16],
    digest: [u8; 32],
}

impl Digested {
    fn new(password: &Password, dice: &mut Dice) -> Digested {
        let salt = dice.bytes();
        Digested {
            salt,
            digest: digest(&salt, password.expose()),
        }
    }
}

fn digest(salt: &[u8; 16], password: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(password.as_bytes());
    hash.finalize().into()
}

#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) user_name: String,
    password: Digested,
    pub(crate) role: RoleId,
    pub(crate) enabled: bool,
    pub(crate) must_change: bool,
    failures: u32,
    locked_until: Option<Timestamp>,
}

impl Account {
    pub(crate) fn locked(&self, now: Timestamp) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    pub(crate) fn unlock(&mut self) {
        self.failures = 0;
        self.locked_until = None;
    }
}

/// A new account's properties, already validated.
pub(crate) struct NewAccount {
    pub(crate) user_name: String,
    pub(crate) password: Password,
    pub(crate) role: RoleId,
    pub(crate) enabled: bool,
    pub(crate) must_change: bool,
}

pub(crate) struct Accounts {
    by_id: BTreeMap<AccountId, Account>,
    limit: usize,
}

impl Accounts {
    pub(crate) fn new(limit: usize) -> Accounts {
        Accounts {
            by_id: BTreeMap::new(),
            limit,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.by_id.iter().map(|(id, account)| (*id, account))
    }

    pub(crate) fn get(&self, id: AccountId) -> Option<&Account> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn named(&self, user_name: &str) -> Option<AccountId> {
        self.iter()
            .find(|(_, account)| account.user_name == user_name)
            .map(|(id, _)| id)
    }

    pub(crate) fn full(&self) -> bool {
        self.by_id.len() >= self.limit
    }

    /// Adds an account in the lowest free slot.
    pub(crate) fn add(&mut self, new: NewAccount, dice: &mut Dice) -> AccountId {
        let id = (1..)
            .find(|id| !self.by_id.contains_key(id))
            .unwrap_or(AccountId::MAX);
        let account = Account {
            password: Digested::new(&new.password, dice),
            user_name: new.user_name,
            role: new.role,
            enabled: new.enabled,
            must_change: new.must_change,
            failures: 0,
            locked_until: None,
        };
        self.by_id.insert(id, account);
        id
    }

    pub(crate) fn remove(&mut self, id: AccountId) {
        self.by_id.remove(&id);
    }

    /// True if nobody could administer the service without this account.
    pub(crate) fn is_last_administrator(&self, id: AccountId) -> bool {
        let admin = |account: &Account| account.enabled && account.role == RoleId::Administrator;
        self.by_id.get(&id).is_some_and(admin)
            && !self.iter().any(|(other, account)| other != id && admin(account))
    }

    pub(crate) fn set_password(&mut self, id: AccountId, password: &Password, dice: &mut Dice) {
        if let Some(account) = self.by_id.get_mut(&id) {
            account.password = Digested::new(password, dice);
            account.must_change = false;
            account.unlock();
        }
    }

    /// Whose password this is, if it is anybody's. Counts failures; a locked account answers like a wrong password, so
    /// that a guesser learns nothing.
    pub(crate) fn verify(&mut self, user_name: &str, password: &str, now: Timestamp) -> Option<AccountId> {
        let id = self.named(user_name)?;
        let account = self.by_id.get_mut(&id)?;
        if account.locked(now) || !account.enabled {
            return None;
        }
        if same(
            &digest(&account.password.salt, password),
            &account.password.digest,
        ) {
            account.unlock();
            return Some(id);
        }
        account.failures += 1;
        if account.failures >= LOCKOUT_THRESHOLD {
            account.failures = 0;
            account.locked_until = now
                .checked_add(jiff::SignedDuration::from_secs(LOCKOUT_SECONDS))
                .ok();
            tracing::info!(account = user_name, "account locked after wrong passwords");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn accounts() -> (Accounts, AccountId, Dice) {
        let mut dice = Dice::new(1, b"test");
        let mut accounts = Accounts::new(3);
        let new = NewAccount {
            user_name: "root".to_owned(),
            password: Password::new("secret"),
            role: RoleId::Administrator,
            enabled: true,
            must_change: false,
        };
        let id = accounts.add(new, &mut dice);
        (accounts, id, dice)
    }

    #[test]
    fn verifies_and_changes_passwords() {
        let (mut accounts, id, mut dice) = accounts();
        assert_eq!(accounts.verify("root", "secret", at(0)), Some(id));
        assert_eq!(accounts.verify("root", "Secret", at(0)), None);
        assert_eq!(accounts.verify("nobody", "secret", at(0)), None);
        accounts.set_password(id, &Password::new("other"), &mut dice);
        assert_eq!(accounts.verify("root", "secret", at(0)), None);
        assert_eq!(accounts.verify("root", "other", at(0)), Some(id));
    }

    #[test]
    fn locks_and_unlocks_by_time() {
        let (mut accounts, id, _) = accounts();
        for _ in 0..LOCKOUT_THRESHOLD {
            assert_eq!(accounts.verify("root", "wrong", at(0)), None);
        }
        assert_eq!(accounts.verify("root", "secret", at(1)), None, "locked");
        assert_eq!(
            accounts.verify("root", "secret", at(LOCKOUT_SECONDS + 1)),
            Some(id)
        );
    }

    #[test]
    fn knows_the_last_administrator() {
        let (mut accounts, id, mut dice) = accounts();
        assert!(accounts.is_last_administrator(id));
        let second = NewAccount {
            user_name: "second".to_owned(),
            password: Password::new("password"),
            role: RoleId::Administrator,
            enabled: true,
            must_change: false,
        };
        let other = accounts.add(second, &mut dice);
        assert!(!accounts.is_last_administrator(id));
        accounts.remove(other);
        assert!(accounts.is_last_administrator(id));
    }
}

//! AccountService: local accounts and the three predefined roles.

use http::HeaderMap;
use serde::Serialize;

use super::schemas;
use crate::bmc::{
    Account, AccountId, Bmc, LOCKOUT_SECONDS, LOCKOUT_THRESHOLD, MAX_PASSWORD, MAX_USER_NAME, MIN_PASSWORD,
    NewAccount, Password, Privilege, RoleId,
};
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::failure::Failure;
use crate::redfish::fields::Fields;
use crate::redfish::message::Message;
use crate::redfish::route::{ACCOUNT, Call, Done, MANAGER, Owner, Route, Scene, USERS};

const SERVICE: &str = "/redfish/v1/AccountService";
const ACCOUNTS: &str = "/redfish/v1/AccountService/Accounts";
const ROLES: &str = "/redfish/v1/AccountService/Roles";

pub(super) const ROUTES: &[Route] = &[
    Route::get(SERVICE, USERS, service),
    Route::get(ACCOUNTS, USERS, collection).post(create),
    Route::get("/redfish/v1/AccountService/Accounts/{}", ACCOUNT, account)
        .patch(patch)
        .delete(delete)
        .owned(owner),
    Route::get(ROLES, MANAGER, roles),
    Route::get("/redfish/v1/AccountService/Roles/{}", MANAGER, role),
];

pub(in crate::redfish) fn account_uri(id: AccountId) -> String {
    format!("{ACCOUNTS}/{id}")
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AccountService {
    id: &'static str,
    name: &'static str,
    service_enabled: bool,
    min_password_length: usize,
    max_password_length: usize,
    account_lockout_threshold: u32,
    account_lockout_duration: i64,
    #[serde(rename = "HTTPBasicAuth")]
    http_basic_auth: &'static str,
    local_account_auth: &'static str,
    supported_account_types: [&'static str; 1],
    status: Status,
    accounts: Link,
    roles: Link,
}

fn service(_: &Scene<'_>, _: &[String]) -> Option<Document> {
    let service = AccountService {
        id: "AccountService",
        name: "Account Service",
        service_enabled: true,
        min_password_length: MIN_PASSWORD,
        max_password_length: MAX_PASSWORD,
        account_lockout_threshold: LOCKOUT_THRESHOLD,
        account_lockout_duration: LOCKOUT_SECONDS,
        http_basic_auth: "Enabled",
        local_account_auth: "Enabled",
        supported_account_types: ["Redfish"],
        status: ENABLED,
        accounts: link(ACCOUNTS),
        roles: link(ROLES),
    };
    Some(Document::new(schemas::ACCOUNT_SERVICE, SERVICE, &service))
}

fn collection(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let ids = scene.bmc.accounts.iter().map(|(id, _)| id.to_string());
    Some(Collection::of(
        schemas::MANAGER_ACCOUNTS,
        ACCOUNTS,
        "Accounts",
        ids,
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManagerAccount<'a> {
    id: String,
    name: &'static str,
    user_name: &'a str,
    /// Write-only by schema, so always null.
    password: (),
    role_id: RoleId,
    enabled: bool,
    locked: bool,
    password_change_required: bool,
    account_types: [&'static str; 1],
    links: AccountLinks,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AccountLinks {
    role: Link,
}

fn parse_id(params: &[String]) -> Option<AccountId> {
    params.first()?.parse().ok()
}

fn owner(params: &[String]) -> Option<Owner> {
    parse_id(params).map(Owner::Account)
}

fn account(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let id = parse_id(params)?;
    let account: &Account = scene.bmc.accounts.get(id)?;
    let resource = ManagerAccount {
        id: id.to_string(),
        name: "User Account",
        user_name: &account.user_name,
        password: (),
        role_id: account.role,
        enabled: account.enabled,
        locked: account.locked(scene.now),
        password_change_required: account.must_change,
        account_types: ["Redfish"],
        links: AccountLinks {
            role: link(format!("{ROLES}/{}", account.role.name())),
        },
    };
    Some(Document::new(
        schemas::MANAGER_ACCOUNT,
        account_uri(id),
        &resource,
    ))
}

/// The properties that POST and PATCH share, read and checked.
struct Wanted {
    user_name: Option<String>,
    password: Option<Password>,
    role: Option<RoleId>,
    enabled: Option<bool>,
    must_change: Option<bool>,
}

fn read(fields: &mut Fields<'_>, bmc: &Bmc, this: Option<AccountId>) -> Wanted {
    let user_name = fields.string("UserName");
    if let Some(name) = &user_name {
        let length = name.chars().count();
        if length == 0 || length > MAX_USER_NAME || name.contains(':') {
            // A colon could never log in: it ends the user name in Basic authentication (RFC 7617).
            fields.fail("UserName", Message::property_format(name, "UserName"));
        } else if bmc.accounts.named(name).is_some_and(|other| Some(other) != this) {
            fields.fail(
                "UserName",
                Message::resource_already_exists("ManagerAccount", "UserName", name),
            );
        }
    }
    let password = fields.string("Password").map(Password::new);
    if let Some(password) = &password
        && !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.expose().chars().count())
    {
        fields.fail("Password", Message::password_length());
    }
    Wanted {
        user_name,
        password,
        role: fields.choice("RoleId", &RoleId::ALL),
        enabled: fields.boolean("Enabled"),
        must_change: fields.boolean("PasswordChangeRequired"),
    }
}

fn create(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::create(call.body);
    let wanted = read(&mut fields, bmc, None);
    if let Some(types) = fields.array("AccountTypes")
        && types.iter().any(|kind| kind != "Redfish")
    {
        fields.fail("AccountTypes", Message::property_value("AccountTypes"));
    }
    let given = [
        ("UserName", wanted.user_name.is_some()),
        ("Password", wanted.password.is_some()),
        ("RoleId", wanted.role.is_some()),
    ];
    let body_had_mistakes = fields.has_mistakes();
    for (name, given) in given {
        if !given && !body_had_mistakes {
            fields.missing(name);
        }
    }
    fields.finish()?;
    if bmc.accounts.full() {
        return Err(Failure::bad_request(Message::create_limit_reached()));
    }
    let (Some(user_name), Some(password), Some(role)) = (wanted.user_name, wanted.password, wanted.role)
    else {
        return Err(Failure::bad_request(Message::unrecognized_request_body()));
    };
    let new = NewAccount {
        user_name,
        password,
        role,
        enabled: wanted.enabled.unwrap_or(true),
        must_change: wanted.must_change.unwrap_or(false),
    };
    let id = bmc.accounts.add(new, &mut bmc.dice);
    tracing::info!(account = id, "account created");
    Ok(Done::Created {
        uri: account_uri(id),
        headers: HeaderMap::new(),
        messages: Vec::new(),
    })
}

fn patch(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let Some(id) = parse_id(call.params) else {
        return Err(Failure::not_found(call.uri));
    };
    // ConfigureSelf reaches the own password only (privilege registry, ManagerAccount property overrides).
    let administers = call.who.is_some_and(|who| who.has(&[Privilege::ConfigureUsers]));
    let only_password = call
        .body
        .keys()
        .all(|name| name == "Password" || name.starts_with('@'));
    if !administers && !only_password {
        return Err(Failure::forbidden());
    }
    let mut fields = Fields::patch(call.body, call.current);
    let wanted = read(&mut fields, bmc, Some(id));
    let locked = fields.boolean("Locked");
    if locked == Some(true) {
        // Only the service locks an account; a user may unlock it (ManagerAccount schema, Locked).
        fields.fail("Locked", Message::property_not_in_list("true", "Locked"));
    }
    // Nobody could undo what the last administrator does to itself.
    if bmc.accounts.is_last_administrator(id) {
        if wanted.enabled == Some(false) {
            fields.fail("Enabled", Message::property_value("Enabled"));
        }
        if wanted.role.is_some_and(|role| role != RoleId::Administrator) {
            fields.fail("RoleId", Message::property_value("RoleId"));
        }
    }
    fields.finish()?;
    apply(bmc, id, wanted, locked);
    Ok(Done::Updated)
}

fn apply(bmc: &mut Bmc, id: AccountId, wanted: Wanted, locked: Option<bool>) {
    if let Some(password) = &wanted.password {
        bmc.accounts.set_password(id, password, &mut bmc.dice);
    }
    let Some(account) = bmc.accounts.get_mut(id) else {
        return;
    };
    if let Some(user_name) = wanted.user_name {
        account.user_name = user_name;
    }
    account.role = wanted.role.unwrap_or(account.role);
    account.enabled = wanted.enabled.unwrap_or(account.enabled);
    account.must_change = wanted.must_change.unwrap_or(account.must_change);
    if locked == Some(false) {
        account.unlock();
    }
    if !account.enabled {
        bmc.sessions.close_of(id);
    }
}

fn delete(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let Some(id) = parse_id(call.params) else {
        return Err(Failure::not_found(call.uri));
    };
    if bmc.accounts.is_last_administrator(id) {
        return Err(Failure::conflict(Message::resource_cannot_be_deleted()));
    }
    bmc.accounts.remove(id);
    bmc.sessions.close_of(id);
    bmc.forget(call.uri);
    tracing::info!(account = id, "account deleted");
    Ok(Done::NoContent)
}

fn roles(_: &Scene<'_>, _: &[String]) -> Option<Document> {
    Some(Collection::of(
        schemas::ROLES,
        ROLES,
        "Roles",
        RoleId::ALL.map(RoleId::name),
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    id: RoleId,
    name: &'static str,
    role_id: RoleId,
    is_predefined: bool,
    assigned_privileges: &'static [Privilege],
}

fn role(_: &Scene<'_>, params: &[String]) -> Option<Document> {
    let wanted = params.first()?;
    let role = RoleId::ALL.into_iter().find(|role| role.name() == wanted)?;
    let resource = Role {
        id: role,
        name: "User Role",
        role_id: role,
        is_predefined: true,
        assigned_privileges: role.privileges(),
    };
    Some(Document::new(
        schemas::ROLE,
        format!("{ROLES}/{}", role.name()),
        &resource,
    ))
}

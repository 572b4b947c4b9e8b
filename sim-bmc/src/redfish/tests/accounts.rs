//! Accounts, sessions, roles.

use super::{ACCOUNTS, Answer, Fixture, SESSIONS, SYSTEM, basic, fixture};

fn login(fixture: &mut Fixture, user: &str, password: &str) -> Answer {
    fixture.send(
        "POST",
        SESSIONS,
        &[],
        &format!(r#"{{"UserName": "{user}", "Password": "{password}"}}"#),
    )
}

fn add(fixture: &mut Fixture, user: &str, role: &str) -> String {
    let body = format!(r#"{{"UserName": "{user}", "Password": "password1", "RoleId": "{role}"}}"#);
    let answer = fixture.admin("POST", ACCOUNTS, &body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.header("location").to_owned()
}

#[test]
fn a_session_lives_until_it_is_deleted() {
    let mut fixture = fixture("small-vm");
    let created = login(&mut fixture, "admin", "secret");
    assert_eq!(created.status, 201);
    let token = created.header("x-auth-token").to_owned();
    let uri = created.header("location").to_owned();
    assert_eq!(token.len(), 32);
    assert!(!created.text.contains(&token));
    assert_eq!(created.body["@odata.id"], uri.as_str());
    assert_eq!(created.body["UserName"], "admin");
    let with_token = [("x-auth-token", token.as_str())];
    assert_eq!(fixture.send("GET", SYSTEM, &with_token, "").status, 200);
    assert_eq!(
        fixture.send("GET", SESSIONS, &with_token, "").body["Members@odata.count"],
        1
    );
    assert_eq!(fixture.send("DELETE", &uri, &with_token, "").status, 204);
    assert_eq!(
        fixture.send("GET", SYSTEM, &with_token, "").status,
        401,
        "revoked"
    );
    assert_eq!(fixture.get(&uri).status, 404);
}

#[test]
fn sessions_end_by_idleness() {
    let mut fixture = fixture("small-vm");
    assert_eq!(
        fixture
            .admin("PATCH", "/redfish/v1/SessionService", r#"{"SessionTimeout": 30}"#)
            .status,
        200
    );
    let token = login(&mut fixture, "admin", "secret")
        .header("x-auth-token")
        .to_owned();
    let with_token = [("x-auth-token", token.as_str())];
    for _ in 0..3 {
        fixture.pass(20_000);
        assert_eq!(fixture.send("GET", SYSTEM, &with_token, "").status, 200);
    }
    fixture.pass(31_000);
    assert_eq!(fixture.send("GET", SYSTEM, &with_token, "").status, 401);
}

#[test]
fn logins_that_fail() {
    let mut fixture = fixture("small-vm");
    let wrong = login(&mut fixture, "admin", "hunter2");
    assert_eq!(wrong.status, 401);
    assert!(!wrong.text.contains("hunter2"));
    assert!(wrong.headers.get("location").is_none());
    assert_eq!(login(&mut fixture, "nobody", "secret").status, 401);
    let missing = fixture.send("POST", SESSIONS, &[], r#"{"UserName": "admin"}"#);
    assert_eq!(missing.messages(), ["CreateFailedMissingReqProperties Password"]);
    let typed = fixture.send(
        "POST",
        SESSIONS,
        &[],
        r#"{"UserName": "admin", "Password": 1234567}"#,
    );
    assert_eq!(typed.status, 400);
    assert!(
        !typed.text.contains("1234567"),
        "a password is not echoed, even a mistyped one"
    );
}

#[test]
fn sessions_are_limited() {
    let mut fixture = fixture("small-vm");
    for _ in 0..64 {
        assert_eq!(login(&mut fixture, "admin", "secret").status, 201);
    }
    let refused = login(&mut fixture, "admin", "secret");
    assert_eq!(
        (refused.status.as_u16(), refused.messages()),
        (503, vec!["SessionLimitExceeded".to_owned()])
    );
}

#[test]
fn posting_to_members_equals_posting_to_the_collection() {
    let mut fixture = fixture("small-vm");
    let body = r#"{"UserName": "admin", "Password": "secret"}"#;
    assert_eq!(
        fixture
            .send("POST", &format!("{SESSIONS}/Members"), &[], body)
            .status,
        201
    );
}

#[test]
fn accounts_live_and_die() {
    let mut fixture = fixture("small-vm");
    let uri = add(&mut fixture, "guest", "ReadOnly");
    assert_eq!(login(&mut fixture, "guest", "password1").status, 201);
    let changed = fixture.admin(
        "PATCH",
        &uri,
        r#"{"Password": "password2", "RoleId": "Operator"}"#,
    );
    assert_eq!(
        (changed.status.as_u16(), &changed.body["RoleId"]),
        (200, &"Operator".into())
    );
    assert_eq!(login(&mut fixture, "guest", "password1").status, 401);
    let token = login(&mut fixture, "guest", "password2")
        .header("x-auth-token")
        .to_owned();
    assert_eq!(fixture.admin("DELETE", &uri, "").status, 204);
    assert_eq!(fixture.get(&uri).status, 404);
    assert_eq!(
        fixture
            .send("GET", SYSTEM, &[("x-auth-token", &token)], "")
            .status,
        401,
        "its sessions end"
    );
}

#[test]
fn account_rules() {
    let mut fixture = fixture("small-vm");
    let rows: &[(&str, &[&str])] = &[
        (
            r#"{"UserName": "a", "Password": "short", "RoleId": "ReadOnly"}"#,
            &["PasswordIncorrectLength"],
        ),
        (
            r#"{"UserName": "a", "Password": "password1"}"#,
            &["CreateFailedMissingReqProperties RoleId"],
        ),
        (
            r#"{"UserName": "a", "Password": "password1", "RoleId": "King"}"#,
            &["PropertyValueNotInList King RoleId"],
        ),
        (
            r#"{"UserName": "admin", "Password": "password1", "RoleId": "ReadOnly"}"#,
            &["ResourceAlreadyExists ManagerAccount UserName admin"],
        ),
        (
            r#"{"UserName": "a:b", "Password": "password1", "RoleId": "ReadOnly"}"#,
            &["PropertyValueFormatError a:b UserName"],
        ),
        (
            r#"{"UserName": "a", "Password": "password1", "RoleId": "ReadOnly", "X": 1}"#,
            &["PropertyUnknown X"],
        ),
    ];
    for (body, messages) in rows {
        let answer = fixture.admin("POST", ACCOUNTS, body);
        assert_eq!(
            (answer.status.as_u16(), answer.messages()),
            (400, messages.iter().map(|m| (*m).to_owned()).collect())
        );
    }
    let own = format!("{ACCOUNTS}/1");
    assert_eq!(
        fixture.admin("DELETE", &own, "").messages(),
        ["ResourceCannotBeDeleted"],
        "the last administrator"
    );
    assert_eq!(
        fixture.admin("PATCH", &own, r#"{"Enabled": false}"#).messages(),
        ["PropertyValueError Enabled"]
    );
    for n in 0..14 {
        add(&mut fixture, &format!("user{n}"), "ReadOnly");
    }
    let full = fixture.admin(
        "POST",
        ACCOUNTS,
        r#"{"UserName": "z", "Password": "password1", "RoleId": "ReadOnly"}"#,
    );
    assert_eq!(full.messages(), ["CreateLimitReachedForResource"]);
}

#[test]
fn roles_limit_what_an_account_may_do() {
    let mut fixture = fixture("small-vm");
    let guest_uri = add(&mut fixture, "guest", "ReadOnly");
    add(&mut fixture, "operator", "Operator");
    let guest = basic("guest", "password1");
    let operator = basic("operator", "password1");
    let tag = r#"{"AssetTag": "x"}"#;
    let timeout = r#"{"SessionTimeout": 60}"#;
    let password = r#"{"Password": "password9"}"#;
    let admin_uri = format!("{ACCOUNTS}/1");
    let rows: &[(&str, &str, &str, &str, u16)] = &[
        (&guest, "GET", SYSTEM, "", 200),
        (&guest, "PATCH", SYSTEM, tag, 403),
        (&operator, "PATCH", SYSTEM, tag, 200),
        (&operator, "PATCH", "/redfish/v1/SessionService", timeout, 403),
        (&guest, "GET", &admin_uri, "", 403),
        (&guest, "PATCH", &admin_uri, password, 403),
        (&guest, "GET", &guest_uri, "", 200),
        (&guest, "PATCH", &guest_uri, r#"{"RoleId": "Administrator"}"#, 403),
        (&guest, "DELETE", &guest_uri, "", 403),
        (&guest, "PATCH", &guest_uri, password, 200),
        (&guest, "GET", SYSTEM, "", 401),
    ];
    for (who, method, path, body, status) in rows {
        let answer = fixture.send(method, path, &[("authorization", who)], body);
        assert_eq!(answer.status.as_u16(), *status, "{method} {path} {body}");
    }
}

#[test]
fn a_password_that_must_change_opens_one_door() {
    let mut fixture = fixture("small-vm");
    let uri = add(&mut fixture, "guest", "Administrator");
    assert_eq!(
        fixture
            .admin("PATCH", &uri, r#"{"PasswordChangeRequired": true}"#)
            .status,
        200
    );
    let session = login(&mut fixture, "guest", "password1");
    assert_eq!(session.status, 201);
    assert_eq!(
        session.body["@Message.ExtendedInfo"][0]["MessageId"],
        "Base.1.22.PasswordChangeRequired"
    );
    let token = session.header("x-auth-token").to_owned();
    let with_token = [("x-auth-token", token.as_str())];
    let refused = fixture.send("GET", SYSTEM, &with_token, "");
    assert_eq!(
        (refused.status.as_u16(), refused.messages()),
        (403, vec![format!("PasswordChangeRequired {uri}")])
    );
    assert_eq!(fixture.send("GET", &uri, &with_token, "").status, 200);
    let changed = fixture.send("PATCH", &uri, &with_token, r#"{"Password": "password2"}"#);
    assert_eq!(
        (changed.status.as_u16(), &changed.body["PasswordChangeRequired"]),
        (200, &false.into())
    );
    assert_eq!(fixture.send("GET", SYSTEM, &with_token, "").status, 200);
}

#[test]
fn a_rotated_password_ends_what_the_old_one_opened() {
    let mut fixture = fixture("small-vm");
    let token = login(&mut fixture, "admin", "secret")
        .header("x-auth-token")
        .to_owned();
    assert!(fixture.bmc.set_password("admin", &"rotated".into()));
    assert_eq!(
        fixture
            .send("GET", SYSTEM, &[("x-auth-token", &token)], "")
            .status,
        401
    );
    assert_eq!(fixture.get(SYSTEM).status, 401);
    assert_eq!(login(&mut fixture, "admin", "rotated").status, 201);
}

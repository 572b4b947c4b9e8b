//! Bearer tokens: static ones, bootstrap tokens (Secrets in kube-system) and ServiceAccount JWTs (ES256).

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::PoisonError;

use super::Identity;
use crate::server::Inner;

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
pub(crate) const BOOTSTRAP_TYPE: &str = "bootstrap.kubernetes.io/token";

/// A bearer token, kept as its digest: it is never shown, and lookups do not leak its prefix by timing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token([u8; 32]);

impl Token {
    pub(crate) fn new(text: &str) -> Token {
        Token(Sha256::digest(text.as_bytes()).into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// The key that signs ServiceAccount tokens.
pub(crate) struct ServiceAccountKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl ServiceAccountKey {
    pub(crate) fn generate() -> Result<ServiceAccountKey, String> {
        let rng = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)
            .map_err(|e| e.to_string())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &rng)
            .map_err(|e| e.to_string())?;
        let id = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key().as_ref()));
        Ok(ServiceAccountKey { pair, id })
    }

    fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.id});
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!(
            "{signed}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }

    fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// `/openid/v1/jwks`.
    pub(crate) fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref(); // 0x04, then X and Y of 32 bytes each
        let half = |from: usize| BASE64_URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": half(1), "y": half(33)}]})
    }
}

/// What a TokenRequest asks for.
pub(crate) struct Ask<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) audiences: &'a [String],
    pub(crate) seconds: i64,
    /// kind, name, uid of the Pod or Secret that the token dies with.
    pub(crate) bound: Option<(&'a str, &'a str, &'a str)>,
}

pub(crate) fn issue(inner: &Inner, ask: &Ask<'_>) -> Option<String> {
    let now = inner.now().as_second();
    let mut kubernetes = json!({
        "namespace": ask.namespace,
        "serviceaccount": {"name": ask.name, "uid": ask.uid},
    });
    if let Some((kind, name, uid)) = ask.bound {
        kubernetes[kind.to_lowercase()] = json!({"name": name, "uid": uid});
    }
    inner.service_account_key.sign(&json!({
        "aud": ask.audiences, "exp": now + ask.seconds, "iat": now, "nbf": now, "iss": ISSUER, "jti": inner.random.uid(),
        "kubernetes.io": kubernetes, "sub": format!("system:serviceaccount:{}:{}", ask.namespace, ask.name),
    }))
}

/// The user behind a bearer token, if it is good now.
pub(crate) fn authenticate(inner: &Inner, token: &str) -> Option<Identity> {
    let tokens = inner.tokens.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(identity) = tokens.get(&Token::new(token)) {
        return Some(identity.clone());
    }
    drop(tokens);
    bootstrap(inner, token).or_else(|| service_account(inner, token, &[ISSUER.to_owned()]))
}

fn service_account(inner: &Inner, token: &str, audiences: &[String]) -> Option<Identity> {
    let claims = inner.service_account_key.verify(token)?;
    let now = inner.now().as_second();
    if claims["iss"] != ISSUER || claims["exp"].as_i64()? <= now || claims["nbf"].as_i64()? > now {
        return None;
    }
    let granted = claims["aud"].as_array()?;
    if !granted.iter().any(|aud| audiences.iter().any(|a| aud == a)) {
        return None;
    }
    let kubernetes = &claims["kubernetes.io"];
    let namespace = kubernetes["namespace"].as_str()?;
    let (name, uid) = (
        kubernetes["serviceaccount"]["name"].as_str()?,
        kubernetes["serviceaccount"]["uid"].as_str()?,
    );
    let account = inner.store.get("/serviceaccounts", namespace, name)?;
    if account.uid() != uid {
        return None;
    }
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ];
    let mut identity = Identity {
        user: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_owned(),
        groups,
        ..Identity::default()
    }
    .authenticated()
    .credential(format!("JTI={}", claims["jti"].as_str().unwrap_or_default()));
    for (kind, storage) in [("pod", "/pods"), ("secret", "/secrets"), ("node", "/nodes")] {
        let Some(bound) = kubernetes.get(kind) else {
            continue;
        };
        let (bound_name, bound_uid) = (bound["name"].as_str()?, bound["uid"].as_str()?);
        let holder = if kind == "node" { "" } else { namespace };
        if inner.store.get(storage, holder, bound_name)?.uid() != bound_uid {
            return None;
        }
        if kind != "secret" {
            identity = identity
                .with_extra(
                    &format!("authentication.kubernetes.io/{kind}-name"),
                    bound_name.to_owned(),
                )
                .with_extra(
                    &format!("authentication.kubernetes.io/{kind}-uid"),
                    bound_uid.to_owned(),
                );
        }
    }
    Some(identity)
}

/// TokenReview: like `authenticate`, for given audiences.
pub(crate) fn review(inner: &Inner, token: &str, audiences: &[String]) -> Option<Identity> {
    if audiences.is_empty() || audiences.iter().any(|a| a == ISSUER) {
        return authenticate(inner, token);
    }
    service_account(inner, token, audiences)
}

/// A bootstrap token's Secret, decoded: the signer and the cleaner read it too.
pub(crate) struct BootstrapToken {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) authenticates: bool,
    pub(crate) signs: bool,
    pub(crate) expires: Option<Timestamp>,
    groups: Vec<String>,
}

impl BootstrapToken {
    pub(crate) fn parse(secret: &Value) -> Option<BootstrapToken> {
        if secret["type"] != BOOTSTRAP_TYPE {
            return None;
        }
        let text = |key: &str| crate::builtin::secret_text(secret, key).unwrap_or_default();
        let (id, token) = (text("token-id"), text("token-secret"));
        let named = secret["metadata"]["name"]
            .as_str()?
            .strip_prefix("bootstrap-token-")?;
        if named != id || id.len() != 6 || token.len() != 16 {
            return None;
        }
        let groups = text("auth-extra-groups");
        let groups = groups
            .split(',')
            .filter(|g| g.starts_with("system:bootstrappers:"));
        let expiration = text("expiration");
        Some(BootstrapToken {
            id,
            secret: token,
            authenticates: text("usage-bootstrap-authentication") == "true",
            signs: text("usage-bootstrap-signing") == "true",
            // An unreadable time counts as long past, as in the real authenticator.
            expires: (!expiration.is_empty()).then(|| expiration.parse().unwrap_or(Timestamp::UNIX_EPOCH)),
            groups: groups.map(str::to_owned).collect(),
        })
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

fn bootstrap(inner: &Inner, token: &str) -> Option<Identity> {
    let (id, secret) = token.split_once('.')?;
    let word = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if !word(id, 6) || !word(secret, 16) {
        return None;
    }
    let stored = inner
        .store
        .get("/secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
    let stored_token = BootstrapToken::parse(&stored.value)?;
    let good = Token::new(&stored_token.secret) == Token::new(secret)
        && stored_token.authenticates
        && !stored_token.is_expired(inner.now())
        && !stored.is_deleting();
    let mut groups = vec!["system:bootstrappers".to_owned()];
    groups.extend(stored_token.groups);
    good.then(|| {
        Identity {
            user: format!("system:bootstrap:{id}"),
            groups,
            ..Identity::default()
        }
        .authenticated()
    })
}

//! Kubeconfig files, written as JSON-in-YAML free of surprises: one cluster, one user, one context.

use base64::prelude::{BASE64_STANDARD, Engine};

/// How the kubeconfig's user proves who they are.
pub(crate) enum Credential<'a> {
    None,
    Token(&'a str),
    Certificate { chain_pem: &'a str, key_pem: &'a str },
}

pub(crate) fn render(url: &str, ca_pem: &str, user: &str, credential: &Credential<'_>) -> String {
    let ca = BASE64_STANDARD.encode(ca_pem);
    let cluster = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: sim\n  cluster:\n    server: {url}\n    \
         certificate-authority-data: {ca}\n"
    );
    match credential {
        // The form that kubeadm publishes in cluster-info: a cluster and nothing else.
        Credential::None => format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: {url}\n  \
             name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {{}}\nusers: null\n"
        ),
        Credential::Token(token) => {
            let user = serde_json::Value::from(user);
            format!(
                "{cluster}users:\n- name: {user}\n  user:\n    token: {token}\ncontexts:\n- name: sim\n  context:\n    \
                 cluster: sim\n    user: {user}\ncurrent-context: sim\n"
            )
        }
        Credential::Certificate { chain_pem, key_pem } => {
            let user = serde_json::Value::from(user);
            format!(
                "{cluster}users:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
                 contexts:\n- name: sim\n  context:\n    cluster: sim\n    user: {user}\ncurrent-context: sim\n",
                BASE64_STANDARD.encode(chain_pem),
                BASE64_STANDARD.encode(key_pem)
            )
        }
    }
}

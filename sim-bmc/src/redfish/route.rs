//! The table of routes: which URIs exist, what may be done to them and by whom.
//!
//! A resource is one row. `Allow`, privileges, `$metadata`, 404 and 405 all follow from the rows, so that nothing is
//! advertised that does not answer.

use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::auth::Principal;
use super::document::Document;
use super::failure::Failure;
use super::message::Message;
use super::tree;
use crate::bmc::{AccountId, Bmc, Privilege, SessionId};

/// What a resource is rendered from.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) bmc: &'a Bmc,
    pub(crate) now: Timestamp,
}

/// A write, with its preconditions already met.
pub(crate) struct Call<'a> {
    pub(crate) params: &'a [String],
    pub(crate) uri: &'a str,
    pub(crate) body: Map<String, Value>,
    /// The resource as it is; `None` for an action.
    pub(crate) current: Option<&'a Map<String, Value>>,
    /// `None` only where no login is needed.
    pub(crate) who: Option<&'a Principal>,
    pub(crate) now: Timestamp,
}

impl Call<'_> {
    pub(crate) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }
}

pub(crate) enum Done {
    /// 204.
    NoContent,
    /// 200 with the resource as it is now.
    Updated,
    /// 201 with Location and the new resource.
    Created {
        uri: String,
        headers: HeaderMap,
        messages: Vec<Message>,
    },
}

pub(crate) type Read = fn(&Scene<'_>, &[String]) -> Option<Document>;
pub(crate) type Write = fn(&mut Bmc, Call<'_>) -> Result<Done, Failure>;

/// Whose resource it is, for privileges that depend on that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Account(AccountId),
    Session(SessionId),
}

/// A row of the privilege registry: any one privilege of a list suffices.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) read: &'static [Privilege],
    pub(crate) write: &'static [Privilege],
    /// Methods that the owner may use with ConfigureSelf.
    own: &'static [Method],
}

impl Access {
    pub(crate) fn own_allows(&self, method: &Method) -> bool {
        self.own.contains(method)
    }
}

use Privilege::{ConfigureComponents, ConfigureManager, ConfigureUsers, Login};

pub(crate) const COMPONENTS: Access = Access {
    read: &[Login],
    write: &[ConfigureComponents],
    own: &[],
};
pub(crate) const MANAGER: Access = Access {
    read: &[Login],
    write: &[ConfigureManager],
    own: &[],
};
pub(crate) const USERS: Access = Access {
    read: &[Login],
    write: &[ConfigureUsers],
    own: &[],
};
pub(crate) const SESSIONS: Access = Access {
    read: &[Login],
    write: &[Login],
    own: &[],
};
pub(crate) const ACCOUNT: Access = Access {
    read: &[ConfigureManager, ConfigureUsers],
    write: &[ConfigureUsers],
    own: &[Method::GET, Method::HEAD, Method::PATCH],
};
pub(crate) const SESSION: Access = Access {
    read: &[ConfigureManager],
    write: &[ConfigureManager],
    own: &[Method::GET, Method::HEAD, Method::DELETE],
};

pub(crate) struct Route {
    /// `{}` stands for one segment.
    pub(crate) pattern: &'static str,
    access: Access,
    read: Option<Read>,
    patch: Option<Write>,
    post: Option<Write>,
    delete: Option<Write>,
    owner: Option<fn(&[String]) -> Option<Owner>>,
}

impl Route {
    pub(crate) const fn get(pattern: &'static str, access: Access, read: Read) -> Route {
        Route {
            read: Some(read),
            ..Route::bare(pattern, access)
        }
    }

    /// An action: POST only.
    pub(crate) const fn action(pattern: &'static str, access: Access, post: Write) -> Route {
        Route {
            post: Some(post),
            ..Route::bare(pattern, access)
        }
    }

    const fn bare(pattern: &'static str, access: Access) -> Route {
        Route {
            pattern,
            access,
            read: None,
            patch: None,
            post: None,
            delete: None,
            owner: None,
        }
    }

    pub(crate) const fn patch(self, patch: Write) -> Route {
        Route {
            patch: Some(patch),
            ..self
        }
    }

    pub(crate) const fn post(self, post: Write) -> Route {
        Route {
            post: Some(post),
            ..self
        }
    }

    pub(crate) const fn delete(self, delete: Write) -> Route {
        Route {
            delete: Some(delete),
            ..self
        }
    }

    pub(crate) const fn owned(self, owner: fn(&[String]) -> Option<Owner>) -> Route {
        Route {
            owner: Some(owner),
            ..self
        }
    }

    fn matches(&self, path: &str) -> Option<Vec<String>> {
        let mut params = Vec::new();
        let mut given = path.split('/');
        for expected in self.pattern.split('/') {
            let segment = given.next()?;
            if expected == "{}" && !segment.is_empty() {
                params.push(segment.to_owned());
            } else if expected != segment {
                return None;
            }
        }
        given.next().is_none().then_some(params)
    }
}

/// A route with the values of its parameters.
pub(crate) struct Found<'a> {
    route: &'a Route,
    pub(crate) params: Vec<String>,
    pub(crate) uri: String,
}

/// The first row that matches; rows with literal segments come before those with parameters.
pub(crate) fn find(path: &str) -> Option<Found<'static>> {
    tree::routes().find_map(|route| {
        let params = route.matches(path)?;
        Some(Found {
            route,
            params,
            uri: path.to_owned(),
        })
    })
}

impl Found<'_> {
    pub(crate) fn read(&self, scene: &Scene<'_>) -> Option<Document> {
        self.route.read.and_then(|read| read(scene, &self.params))
    }

    pub(crate) fn is_action(&self) -> bool {
        self.route.read.is_none()
    }

    pub(crate) fn opens_session(&self) -> bool {
        matches!(self.route.pattern, tree::SESSIONS_URI | tree::SESSION_MEMBERS_URI)
    }

    pub(crate) fn access(&self) -> &Access {
        &self.route.access
    }

    pub(crate) fn owner(&self, scene: &Scene<'_>) -> Option<Owner> {
        let owner = self.route.owner.and_then(|owner| owner(&self.params))?;
        let exists = match owner {
            Owner::Account(id) => scene.bmc.accounts.get(id).is_some(),
            Owner::Session(id) => scene.bmc.sessions.get(id).is_some(),
        };
        exists.then_some(owner)
    }

    pub(crate) fn allow(&self) -> Vec<&'static str> {
        let mut allow = Vec::with_capacity(5);
        if self.route.read.is_some() {
            allow.extend(["GET", "HEAD"]);
        }
        let writes = [
            ("PATCH", self.route.patch),
            ("POST", self.route.post),
            ("DELETE", self.route.delete),
        ];
        allow.extend(
            writes
                .iter()
                .filter(|(_, handler)| handler.is_some())
                .map(|(method, _)| *method),
        );
        allow
    }

    /// The handler of a write that `allow` lists.
    pub(crate) fn handler(&self, method: &Method) -> Write {
        let handler = match *method {
            Method::PATCH => self.route.patch,
            Method::POST => self.route.post,
            Method::DELETE => self.route.delete,
            _ => None,
        };
        handler.unwrap_or(|_, _| Err(Failure::method_not_allowed(&[])))
    }
}

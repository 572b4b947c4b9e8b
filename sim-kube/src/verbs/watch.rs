//! watch: initial state, then the log from a cursor, with bookmarks, a deadline, and 410 for the late.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use http_body::Frame;
use serde_json::{Value, json};

use super::read::Selection;
use super::{Ctx, Form, options, respond};
use crate::body::{self, Reply};
use crate::status::{ApiError, Result};
use crate::store::{Event, EventKind, Log, Obj, Read};

/// Bookmarks come about once a minute on the real server.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Without `timeoutSeconds` the real server picks 30 to 60 minutes; we take the middle.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(45 * 60);
/// Events taken from the log in one go: bounds what a watcher holds beside the log.
const BATCH: usize = 128;

struct Plan {
    initial: VecDeque<Obj>,
    /// A bookmark with `k8s.io/initial-events-end` follows the initial objects.
    mark_end: bool,
    cursor: u64,
    expired: bool,
}

fn plan(ctx: &Ctx, selection: &Selection, log: &Log) -> Result<Plan> {
    let version = options::resource_version(&ctx.query)?;
    let wanted = options::initial_events(&ctx.query)?;
    let store = &ctx.inner.store;
    let snapshot = || {
        let snapshot = store.list(&ctx.resource.storage, ctx.namespace());
        let initial = snapshot
            .objects
            .into_iter()
            .filter(|o| selection.matches(ctx, o))
            .collect();
        (initial, snapshot.version)
    };
    let from_now = |mark_end: bool| {
        let (initial, cursor) = snapshot();
        Plan {
            initial,
            mark_end,
            cursor,
            expired: false,
        }
    };
    match (wanted, version) {
        (Some(true), Some(version)) if version > store.version() => {
            Err(ApiError::rv_too_large(version, store.version()))
        }
        (Some(true), _) => Ok(from_now(true)),
        // Without a version: the state, then changes. So does "0".
        (None, None | Some(0)) => Ok(from_now(false)),
        (Some(false), None | Some(0)) => Ok(Plan {
            initial: VecDeque::new(),
            mark_end: false,
            cursor: store.version(),
            expired: false,
        }),
        (_, Some(version)) => {
            let expired = matches!(log.read_after(version, 0), Read::Expired);
            Ok(Plan {
                initial: VecDeque::new(),
                mark_end: false,
                cursor: version,
                expired,
            })
        }
    }
}

/// What one watcher sees of an event, given its selectors: objects enter and leave a selection.
fn seen(ctx: &Ctx, selection: &Selection, event: &Event) -> Option<EventKind> {
    let namespace = ctx.namespace();
    if !namespace.is_empty() && event.object.namespace() != namespace {
        return None;
    }
    if selection.is_everything() {
        return Some(event.kind);
    }
    let was = event
        .previous
        .as_ref()
        .is_some_and(|previous| selection.matches(ctx, previous));
    let is = event.kind != EventKind::Deleted && selection.matches(ctx, &event.object);
    match (was, is) {
        (false, false) => None,
        (false, true) => Some(EventKind::Added),
        (true, true) => Some(EventKind::Modified),
        (true, false) => Some(EventKind::Deleted),
    }
}

struct Encoder {
    ctx: Ctx,
    /// Tables carry their column definitions in the first event only.
    tables: usize,
}

impl Encoder {
    fn event(&mut self, event: &Event, kind: EventKind) -> Bytes {
        let ctx = &self.ctx;
        let plain = ctx.accept.form == Form::Whole && kind == event.kind;
        if plain && respond::is_external(&ctx.resource, &event.object.value) {
            return event.line();
        }
        // An object that left the selection is shown as it was, at the version that took it away.
        self.object(kind.name(), &event.object)
    }

    fn object(&mut self, kind: &str, object: &Obj) -> Bytes {
        let ctx = &self.ctx;
        if ctx.accept.form != Form::Table {
            return crate::store::line(kind, &respond::encode(ctx, object));
        }
        self.tables += 1;
        let value = respond::external(&ctx.resource, &object.value);
        let mut table = respond::table_of(ctx, &[&value], self.tables == 1);
        table["metadata"] = json!({"resourceVersion": object.version.to_string()});
        crate::store::line(kind, table.to_string().as_bytes())
    }

    fn bookmark(&mut self, version: u64, end: bool) -> Bytes {
        let ctx = &self.ctx;
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if !ctx.resource.is_custom() {
            metadata["creationTimestamp"] = Value::Null;
        }
        if end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": ctx.resource.kind, "apiVersion": ctx.resource.api_version(), "metadata": metadata});
        let shaped = match ctx.accept.form {
            Form::Whole => object,
            Form::Metadata => respond::partial(&object),
            Form::Table => {
                self.tables += 1;
                let mut table = respond::table_of(ctx, &[&object], self.tables == 1);
                table["metadata"] = json!({"resourceVersion": version.to_string()});
                table
            }
        };
        crate::store::line("BOOKMARK", shaped.to_string().as_bytes())
    }
}

fn expired_line(version: u64, current: u64) -> Bytes {
    let mut status = ApiError::expired(format!("too old resource version: {version} ({current})")).to_value();
    status["metadata"] = json!({});
    crate::store::line("ERROR", status.to_string().as_bytes())
}

pub(super) fn watch(ctx: &Ctx) -> Result<Reply> {
    let selection = Selection::parse(ctx)?;
    let log = ctx.inner.store.log(&ctx.resource.storage);
    let news = log.subscribe();
    let plan = plan(ctx, &selection, &log)?;
    let seconds = ctx
        .query
        .get("timeoutSeconds")
        .and_then(|s| s.parse::<u64>().ok())
        .filter(|s| *s > 0);
    let timeout = seconds.map_or(TIMEOUT_DEFAULT, Duration::from_secs);
    let bookmarks = ctx.query.flag("allowWatchBookmarks");
    let owned = ctx.for_stream();
    let watcher = Watcher {
        encoder: Encoder {
            ctx: owned,
            tables: 0,
        },
        selection,
        log,
        news,
        bookmarks,
        timeout,
    };
    let media = if ctx.accept.yaml {
        "application/yaml;stream=watch"
    } else {
        "application/json"
    };
    Ok(body::stream(media, watcher.lines(plan)))
}

struct Watcher {
    encoder: Encoder,
    selection: Selection,
    log: Arc<Log>,
    news: tokio::sync::watch::Receiver<u64>,
    bookmarks: bool,
    timeout: Duration,
}

enum Turn {
    News,
    Bookmark,
    End,
}

impl Watcher {
    fn lines(
        mut self,
        plan: Plan,
    ) -> impl futures::Stream<Item = std::result::Result<Frame<Bytes>, Infallible>> {
        stream! {
            let deadline = tokio::time::sleep(self.timeout);
            tokio::pin!(deadline);
            let mut next_bookmark = Box::pin(tokio::time::sleep(BOOKMARK_EVERY));
            if plan.expired {
                yield Ok(Frame::data(expired_line(plan.cursor, self.log.last())));
                return;
            }
            for object in plan.initial {
                yield Ok(Frame::data(self.encoder.object("ADDED", &object)));
            }
            let mut cursor = plan.cursor;
            if plan.mark_end && self.bookmarks {
                yield Ok(Frame::data(self.encoder.bookmark(cursor, true)));
            }
            let mut dirty = false;
            loop {
                // The store's version first, the log second: see `Store::committed`.
                let current = self.encoder.ctx.inner.store.version();
                self.news.mark_unchanged();
                let events = match self.log.read_after(cursor, BATCH) {
                    Read::Events(events) => events,
                    Read::Expired => {
                        yield Ok(Frame::data(expired_line(cursor, current)));
                        return;
                    }
                };
                let full = events.len() == BATCH;
                for event in events {
                    cursor = event.version();
                    if let Some(kind) = seen(&self.encoder.ctx, &self.selection, &event) {
                        dirty = true;
                        yield Ok(Frame::data(self.encoder.event(&event, kind)));
                    }
                }
                if full {
                    continue;
                }
                cursor = cursor.max(current);
                if self.log.is_closed() {
                    return;
                }
                let turn = tokio::select! {
                    biased;
                    changed = self.news.changed() => if changed.is_ok() { Turn::News } else { Turn::End },
                    () = &mut deadline => Turn::End,
                    () = &mut next_bookmark, if self.bookmarks => Turn::Bookmark,
                };
                match turn {
                    Turn::News => {}
                    Turn::Bookmark => {
                        next_bookmark = Box::pin(tokio::time::sleep(BOOKMARK_EVERY));
                        yield Ok(Frame::data(self.encoder.bookmark(cursor, false)));
                    }
                    Turn::End => {
                        // A watch that saw events ends with where it got to, so that the next one resumes there.
                        if self.bookmarks && dirty {
                            yield Ok(Frame::data(self.encoder.bookmark(cursor, false)));
                        }
                        return;
                    }
                }
            }
        }
    }
}

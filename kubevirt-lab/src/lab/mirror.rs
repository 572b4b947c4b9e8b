//! The image upstream of the lab: what `cloud-images.ubuntu.com` and a site's boot assets are on a real one.

use super::serve;
use crate::host::image;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{collections::BTreeMap, convert::Infallible, io, sync::Arc};
use steelyard_controller::{Listener, tasks::Tasks};

/// Where Ubuntu has the image that the examples name.
pub(crate) const IMAGE: &str = "/noble/current/noble-server-cloudimg-amd64.img";
const SUMS: &str = "/noble/current/SHA256SUMS";

type Files = BTreeMap<String, Bytes>;

pub(super) fn start(listener: Box<dyn Listener>, seed: u64, tasks: &Tasks) {
    let files = Arc::new(files(seed));
    serve::each(listener, tasks, "mirror", move |stream| {
        let files = files.clone();
        async move {
            let service = service_fn(move |request| {
                let answer = answer(&files, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
                .map_err(io::Error::other)
        }
    });
}

fn files(seed: u64) -> Files {
    let disk = image::os_image(seed);
    let artefacts = image::artefacts();
    let name = IMAGE.rsplit('/').next().unwrap_or_default();
    Files::from([
        (SUMS.to_owned(), image::sha256sums(&[(name, &disk)]).into()),
        (IMAGE.to_owned(), disk),
        ("/boot/vmlinuz".to_owned(), artefacts.kernel),
        ("/boot/initramfs".to_owned(), artefacts.initrd),
        ("/boot/snponly.efi".to_owned(), image::boot_file()),
    ])
}

fn answer(files: &Files, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode| {
        let mut response = Response::new(Full::new(Bytes::from(format!("{status}\n"))));
        *response.status_mut() = status;
        response
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(file) = files.get(request.uri().path()) else { return plain(StatusCode::NOT_FOUND) };
    // hyper leaves the body of an answer to HEAD out and keeps its length.
    let mut response = Response::new(Full::new(file.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    response
}

//! The image upstream of the lab: what `cloud-images.ubuntu.com` and a site's boot assets are on a real one.

use super::{LabError, serve};
use crate::host::{
    IPXE_MAGIC,
    image::{self, OsImage},
};
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

/// The modules that the lab's cloud-init has.
const CLOUD_INIT: &[&str] = &["bootcmd", "hostname", "users", "ssh", "write_files", "runcmd"];

type Files = BTreeMap<String, Bytes>;

pub(super) fn start(listener: Box<dyn Listener>, seed: u64, tasks: &Tasks) -> Result<(), LabError> {
    let files = Arc::new(files(seed).map_err(|why| LabError::Artefact(why.to_string()))?);
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
    Ok(())
}

fn files(seed: u64) -> Result<Files, Box<dyn std::error::Error>> {
    let os = OsImage {
        name: "Ubuntu".into(),
        version: "24.04 LTS (Noble Numbat), lab edition".into(),
        cloud_init: CLOUD_INIT.iter().map(|m| (*m).to_owned()).collect(),
        seed,
    };
    let disk = image::os_image(&os)?;
    let artefacts = image::artefacts(seed)?;
    let name = IMAGE.rsplit('/').next().unwrap_or_default();
    Ok(Files::from([
        (SUMS.to_owned(), image::sha256sums(&[(name, &disk)]).into()),
        (IMAGE.to_owned(), disk.into()),
        ("/boot/vmlinuz".to_owned(), artefacts.kernel),
        ("/boot/initramfs".to_owned(), artefacts.initrd),
        ("/boot/snponly.efi".to_owned(), boot_file()),
    ]))
}

/// A network boot program as the lab's firmware knows it: its mark, and as much again as makes TFTP send blocks.
fn boot_file() -> Bytes {
    let mut file = IPXE_MAGIC.to_vec();
    file.resize(8 << 10, 0);
    file.into()
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
    let Some(file) = files.get(request.uri().path()) else {
        return plain(StatusCode::NOT_FOUND);
    };
    // hyper leaves the body of an answer to HEAD out and keeps its length.
    let mut response = Response::new(Full::new(file.clone()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/octet-stream"),
    );
    response
}

//! Fetching from an upstream on a network in memory: good, wrong, gone, changed; caches that outlive us.

use super::*;
use crate::{
    boot::testing::{Handler, Running, Wire, until, web},
    tls,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use std::{collections::BTreeMap, path::Path};
use steelyard_api::metal3::ChecksumType;

fn disk(fill: u8, size: usize) -> Bytes {
    let mut bytes = vec![fill; size];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes.into()
}

fn sha(bytes: &[u8]) -> String {
    let mut hasher = checksum::Hasher::new(checksum::Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish().remove(0).hex
}

/// What upstream serves by path; the requests that it saw.
#[derive(Default)]
struct Upstream {
    files: BTreeMap<String, Bytes>,
    redirects: BTreeMap<String, String>,
    seen: Vec<String>,
}

struct Site {
    images: Images,
    upstream: Arc<Mutex<Upstream>>,
    changes: Arc<Mutex<usize>>,
    _running: Vec<Running>,
}

impl Site {
    async fn new(config: ImageConfig) -> Self {
        let wire = Wire::default();
        wire.name("images.example", [10, 0, 0, 1]);
        let upstream = Arc::new(Mutex::new(Upstream::default()));
        let serving = upstream.clone();
        let handler: Handler = Arc::new(move |request: Request<Bytes>| {
            let path = request.uri().path().to_owned();
            let mut upstream = serving.lock().unwrap();
            upstream.seen.push(path.clone());
            if let Some(to) = upstream.redirects.get(&path) {
                return Response::builder()
                    .status(302)
                    .header("location", to)
                    .body("moved".into())
                    .unwrap();
            }
            match upstream.files.get(&path) {
                Some(bytes) => Response::new(bytes.clone()),
                None => Response::builder()
                    .status(404)
                    .body("<html>not here</html>".into())
                    .unwrap(),
            }
        });
        let running = web(&wire.host([10, 0, 0, 1]), 80, None, handler).await;
        let changes = Arc::new(Mutex::new(0));
        let counted = changes.clone();
        let changed: ImageChanged = Arc::new(move |_| *counted.lock().unwrap() += 1);
        let clock = Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap());
        let net = wire.host([10, 0, 0, 9]);
        let images = Images::new(config, net, tls::trust_anyone().unwrap(), clock, changed).unwrap();
        let worker = images.clone();
        let worker = Running::of(async move { match worker.run().await {} });
        Site {
            images,
            upstream,
            changes,
            _running: vec![running, worker],
        }
    }

    fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        self.upstream
            .lock()
            .unwrap()
            .files
            .insert(path.into(), bytes.into());
    }

    fn seen(&self, path: &str) -> usize {
        self.upstream
            .lock()
            .unwrap()
            .seen
            .iter()
            .filter(|seen| *seen == path)
            .count()
    }

    /// What becomes of an image.
    async fn outcome(&self, image: &Image) -> Result<String, String> {
        self.images.ensure(image);
        until("the image", || match self.images.facts(image).known() {
            Some(ImageFacts::Ready { sha256, .. }) => Some(Ok(sha256.clone())),
            Some(ImageFacts::Failed { message, .. }) => Some(Err(message.clone())),
            _ => None,
        })
        .await
    }

    async fn contents(&self, sha256: &str) -> Bytes {
        let blob = self.images.open(sha256).expect("a verified image");
        blob.read(0, blob.size())
            .await
            .unwrap()
            .collect()
            .await
            .unwrap()
            .to_bytes()
    }
}

fn image(url: &str, checksum: &str) -> Image {
    Image {
        url: url.into(),
        checksum: Some(checksum.into()),
        ..Image::default()
    }
}

const URL: &str = "http://images.example/noble/disk.img";

#[tokio::test]
async fn a_good_image_by_every_kind_of_checksum() {
    let site = Site::new(ImageConfig::in_memory()).await;
    let bytes = disk(1, 100_000);
    site.put("/noble/disk.img", bytes.clone());
    site.put(
        "/noble/SHA256SUMS",
        format!("{} *other.img\n{} *disk.img\n", "0".repeat(64), sha(&bytes)),
    );
    let mut md5 = checksum::Hasher::new(checksum::Algorithm::Md5);
    md5.update(&bytes);
    let md5 = md5.finish().remove(1).hex;
    assert!(matches!(
        site.images.facts(&image(URL, &md5)),
        Observed::Unknown { .. }
    ));
    for checksum in [sha(&bytes), md5, "http://images.example/noble/SHA256SUMS".into()] {
        assert_eq!(
            site.outcome(&image(URL, &checksum)).await,
            Ok(sha(&bytes)),
            "{checksum}"
        );
    }
    assert!(site.contents(&sha(&bytes)).await == bytes);
    assert_eq!(*site.changes.lock().unwrap(), 3);
    // The md5 was not known after the first fetch; the third knew its SHA-256.
    assert_eq!(site.seen("/noble/disk.img"), 2);
}

#[tokio::test]
async fn failures_name_url_cause_and_fix() {
    let site = Site::new(ImageConfig {
        limit: 1 << 20,
        ..ImageConfig::in_memory()
    })
    .await;
    let bytes = disk(1, 5000);
    let hash = sha(&bytes);
    site.put("/noble/disk.img", bytes);
    site.put("/qcow2.img", &b"QFI\xfb\0\0\0\x03 and so on"[..]);
    site.put("/page.img", &b"<!doctype html><p>Sign in"[..]);
    site.put("/zeros.img", vec![0; 5000]);
    site.put("/huge.img", disk(0, (1 << 20) + 1));
    site.put("/SUMS", format!("{hash}  else.img\n{hash} y\n"));
    let zeros = sha(&[0; 5000]);
    for (image, words) in [
        (
            image("http://images.example/gone.img", &hash),
            vec!["gone.img", "404", "image.url"],
        ),
        (
            image(URL, &"0".repeat(64)),
            vec![URL, &"0".repeat(64), &hash, "image.checksum"],
        ),
        (
            image("http://images.example/qcow2.img", &hash),
            vec!["qcow2.img", "is qcow2", "qemu-img convert -O raw"],
        ),
        (image("http://images.example/page.img", &hash), vec!["web page"]),
        (
            image("http://images.example/zeros.img", &zeros),
            vec!["neither an MBR nor a GPT"],
        ),
        (
            image("http://images.example/huge.img", &hash),
            vec!["1 MiB", "--image-cache DIR"],
        ),
        (
            image(URL, "http://images.example/SUMS"),
            vec!["SUMS", "no line for disk.img"],
        ),
        (
            image(URL, "http://images.example/NOSUMS"),
            vec!["NOSUMS", "404", "image.checksum"],
        ),
        (image(URL, "abc"), vec!["\"abc\"", "digest"]),
        (
            Image {
                checksum: None,
                ..image(URL, "")
            },
            vec!["image.checksum is missing"],
        ),
        (
            Image {
                checksum_type: Some(ChecksumType::Sha512),
                ..image(URL, &hash)
            },
            vec!["sha512", "128"],
        ),
        (
            image("ftp://images.example/x", &hash),
            vec!["ftp", "http or https"],
        ),
        (
            image("http://nowhere.example/x", &hash),
            vec!["nowhere.example", "can't connect"],
        ),
        (
            Image {
                format: Some(steelyard_api::metal3::ImageFormat::LiveIso),
                ..image(URL, &hash)
            },
            vec!["live-iso"],
        ),
    ] {
        let error = site.outcome(&image).await.unwrap_err();
        for word in words {
            assert!(error.contains(word), "{error:?} should name {word:?}");
        }
    }
}

#[tokio::test]
async fn redirects_and_mirrors() {
    let mirror: Mirror = "https://cloud-images.example=http://images.example/mirror"
        .parse()
        .unwrap();
    let site = Site::new(ImageConfig {
        mirrors: vec![mirror],
        ..ImageConfig::in_memory()
    })
    .await;
    let bytes = disk(2, 1000);
    site.put("/real.img", bytes.clone());
    site.upstream
        .lock()
        .unwrap()
        .redirects
        .insert("/mirror/a.img".into(), "../real.img".into());
    site.upstream
        .lock()
        .unwrap()
        .redirects
        .insert("/loop.img".into(), "/loop.img".into());
    assert_eq!(
        site.outcome(&image("https://cloud-images.example/a.img", &sha(&bytes)))
            .await,
        Ok(sha(&bytes))
    );
    let looping = site
        .outcome(&image("http://images.example/loop.img", &sha(b"other")))
        .await
        .unwrap_err();
    assert!(looping.contains("redirects too often"), "{looping}");
    let gone = site
        .outcome(&image("https://cloud-images.example/b.img", &sha(b"other")))
        .await
        .unwrap_err();
    assert!(
        gone.contains(
            "https://cloud-images.example/b.img (from the mirror http://images.example/mirror/b.img)"
        ),
        "{gone}"
    );
    assert!("nonsense".parse::<Mirror>().is_err() && "=http://x".parse::<Mirror>().is_err());
    let equals: Mirror = "https://a/?x=1=http://b".parse().unwrap();
    assert_eq!(equals.prefix, "https://a/?x=1");
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_tried_again_but_not_in_a_tight_loop() {
    let site = Site::new(ImageConfig::in_memory()).await;
    let bytes = disk(3, 1000);
    let image = image(URL, &sha(&bytes));
    assert!(site.outcome(&image).await.is_err());
    for _ in 0..10 {
        site.images.ensure(&image);
    }
    assert_eq!(site.seen("/noble/disk.img"), 1, "its backoff is not over");
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.images.ensure(&image);
    until("the second try", || {
        (site.seen("/noble/disk.img") == 2).then_some(())
    })
    .await;
    // The cause goes away.
    site.put("/noble/disk.img", bytes.clone());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.outcome(&image).await, Ok(sha(&bytes)));
}

#[tokio::test(start_paused = true)]
async fn a_changed_checksum_file_is_followed() {
    let site = Site::new(ImageConfig::in_memory()).await;
    let (old, new) = (disk(4, 1000), disk(5, 1000));
    site.put("/noble/disk.img", old.clone());
    site.put("/noble/SUMS", sha(&old));
    let image = image(URL, "http://images.example/noble/SUMS");
    assert_eq!(site.outcome(&image).await, Ok(sha(&old)));
    site.put("/noble/disk.img", new.clone());
    site.put("/noble/SUMS", sha(&new));
    site.images.ensure(&image);
    assert_eq!(site.seen("/noble/SUMS"), 1, "believed for a while");
    tokio::time::sleep(Duration::from_secs(300)).await;
    site.images.ensure(&image);
    until("the new image", || site.images.open(&sha(&new))).await;
    assert!(
        site.images.open(&sha(&old)).is_some(),
        "who still writes the old one can"
    );
    let now = until("the facts", || match site.images.facts(&image).known() {
        Some(ImageFacts::Ready { sha256, .. }) if *sha256 == sha(&new) => Some(sha256.clone()),
        _ => None,
    });
    assert_eq!(now.await, sha(&new));
}

#[tokio::test]
async fn the_cache_makes_room_for_what_is_wanted_now() {
    let site = Site::new(ImageConfig {
        limit: 2500,
        ..ImageConfig::in_memory()
    })
    .await;
    let images: Vec<_> = (0..3u8)
        .map(|n| {
            let bytes = disk(n, 1000);
            site.put(&format!("/{n}.img"), bytes.clone());
            image(&format!("http://images.example/{n}.img"), &sha(&bytes))
        })
        .collect();
    for image in &images {
        site.outcome(image).await.unwrap();
    }
    assert!(
        matches!(site.images.facts(&images[0]), Observed::Unknown { .. }),
        "the oldest had to go"
    );
    assert!(site.images.facts(&images[1]).known().is_some());
    assert!(
        site.outcome(&images[0]).await.is_ok(),
        "and comes back when it is wanted"
    );
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_directory_outlives_us_and_is_not_believed_blindly() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk(6, 300_000);
    let hash = sha(&bytes);
    let site = Site::new(ImageConfig::in_dir(dir.path())).await;
    site.put("/noble/disk.img", bytes.clone());
    assert_eq!(site.outcome(&image(URL, &hash)).await, Ok(hash.clone()));
    assert!(site.contents(&hash).await == bytes);
    let blob = site.images.open(&hash).unwrap();
    let part = blob
        .read(509, 3)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(part.as_ref(), [6, 0x55, 0xaa]);
    assert!(blob.read(299_999, 2).await.is_err());
    assert!(
        site.outcome(&image("http://images.example/gone.img", &sha(b"x")))
            .await
            .is_err()
    );
    assert_eq!(
        names(dir.path()),
        [hash.clone(), format!("{hash}.json")],
        "nothing half done stays behind"
    );
    drop(site);

    std::fs::write(dir.path().join(".partial-7"), b"of a crash").unwrap();
    let site = Site::new(ImageConfig::in_dir(dir.path())).await;
    assert!(site.images.open(&hash).is_none(), "not hashed yet");
    assert_eq!(
        site.outcome(&image(URL, &hash)).await,
        Ok(hash.clone()),
        "without upstream"
    );
    assert_eq!((site.seen("/noble/disk.img"), names(dir.path()).len()), (0, 2));
    drop(site);

    std::fs::write(dir.path().join(&hash), b"rot").unwrap();
    let site = Site::new(ImageConfig::in_dir(dir.path())).await;
    site.put("/noble/disk.img", bytes.clone());
    assert_eq!(site.outcome(&image(URL, &hash)).await, Ok(hash.clone()));
    assert!(site.contents(&hash).await == bytes, "fetched again");
}

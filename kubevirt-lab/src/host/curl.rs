//! `curl` of the simulated OS: a download through the machine's own NICs, with curl's options and exit codes that scripts use.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::http::{Fetch, HttpError};
use super::os::Os;
use super::shell::Io;
use super::tls;

const BODY_MAX: usize = 8 << 20;
/// curl(1) `--max-redirs`.
const REDIRECTS_MAX: usize = 50;

#[derive(Default)]
struct Options {
    fail: bool,
    silent: bool,
    show_error: bool,
    follow: bool,
    insecure: bool,
    output: Option<String>,
    ca: Option<String>,
    retries: u32,
    retry_refused: bool,
    retry_delay: Option<Duration>,
    max_time: Option<Duration>,
    urls: Vec<String>,
}

/// Runs it; its exit status.
pub(crate) async fn run(os: &Arc<Os>, args: &[String], cwd: &str, io: &Io) -> u8 {
    let options = match parse(args) {
        Ok(options) => options,
        Err(text) => {
            io.stderr.line(format!("curl: {text}"));
            return 2;
        }
    };
    let Some(url) = options.urls.first() else {
        io.stderr.line("curl: (2) no URL specified");
        return 2;
    };
    let url = if url.contains("://") {
        url.clone()
    } else {
        format!("http://{url}")
    };
    match attempt(os, &options, &url).await {
        Ok(body) => match &options.output {
            None => {
                io.stdout.write(&body);
                0
            }
            Some(path) if path == "-" => {
                io.stdout.write(&body);
                0
            }
            Some(path) if path == "/dev/null" => 0,
            Some(path) => {
                let path = if path.starts_with('/') {
                    path.clone()
                } else {
                    format!("{cwd}/{path}")
                };
                match os.fs.write(&path, &body) {
                    Ok(()) => 0,
                    Err(error) => complain(&options, io, 23, &error.to_string()),
                }
            }
        },
        Err((code, text)) => complain(&options, io, code, &text),
    }
}

fn complain(options: &Options, io: &Io, code: u8, text: &str) -> u8 {
    if !options.silent || options.show_error {
        io.stderr.line(format!("curl: ({code}) {text}"));
    }
    code
}

async fn attempt(os: &Arc<Os>, options: &Options, url: &str) -> Result<bytes::Bytes, (u8, String)> {
    let url = Url::parse(url).map_err(|error| (3, format!("URL rejected: {error}")))?;
    let tls = if options.insecure {
        tls::anybody()
    } else {
        let bundle = options
            .ca
            .as_deref()
            .unwrap_or("/etc/ssl/certs/ca-certificates.crt");
        let pem = os.fs.read(bundle).map(|pem| pem.to_vec()).unwrap_or_default();
        tls::roots(&pem, None, &os.chassis.clock)
            .map_err(|error| (77, format!("error setting certificate file {bundle}: {error}")))?
    };
    let fetch = Fetch {
        net: &os.net,
        tls,
        agent: "curl/8.5.0",
        body_max: BODY_MAX,
        redirects_max: if options.follow { REDIRECTS_MAX } else { 0 },
        timeout: options.max_time.unwrap_or(os.chassis.timing.http),
    };
    let mut tries = 0;
    loop {
        let (code, text, transient) = match fetch.get(&url).await {
            Ok((status, _)) if options.fail && status.as_u16() >= 400 => {
                let text = format!("The requested URL returned error: {}", status.as_u16());
                (
                    22,
                    text,
                    [408, 429, 500, 502, 503, 504].contains(&status.as_u16()),
                )
            }
            Ok((_, body)) => return Ok(body),
            Err(error) => (error.curl_code(), error.to_string(), transient(&error, options)),
        };
        if tries == options.retries || !transient {
            return Err((code, text));
        }
        // curl(1) --retry: 1 s, doubled up to 10 minutes.
        let wait = options
            .retry_delay
            .unwrap_or(Duration::from_secs(1 << tries.min(9)));
        tokio::time::sleep(wait).await;
        tries += 1;
    }
}

fn transient(error: &HttpError, options: &Options) -> bool {
    match error {
        HttpError::Timeout { .. } | HttpError::Resolve { .. } => true,
        HttpError::Connect { source, .. } => {
            options.retry_refused || source.kind() == std::io::ErrorKind::TimedOut
        }
        _ => false,
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .cloned()
                .ok_or_else(|| format!("option {arg}: requires parameter"))
        };
        let seconds = |text: String| {
            let seconds = text.parse::<f64>().ok().filter(|s| (0.0..1e6).contains(s));
            seconds
                .map(Duration::from_secs_f64)
                .ok_or_else(|| format!("option {arg}: expected a number, got {text}"))
        };
        match arg.as_str() {
            "--fail" => options.fail = true,
            "--silent" => options.silent = true,
            "--show-error" => options.show_error = true,
            "--location" => options.follow = true,
            "--insecure" => options.insecure = true,
            "--output" => options.output = Some(value()?),
            "--cacert" => options.ca = Some(value()?),
            "--retry" => {
                options.retries = value()?
                    .parse()
                    .map_err(|_| format!("option {arg}: expected a number"))?
            }
            "--retry-delay" => options.retry_delay = Some(seconds(value()?)?),
            "--retry-connrefused" | "--retry-all-errors" => options.retry_refused = true,
            "--connect-timeout" => {
                // The stack's own is shorter than what scripts write here.
                seconds(value()?)?;
            }
            "--max-time" => options.max_time = Some(seconds(value()?)?),
            long if long.starts_with("--") => return Err(format!("option {long}: is unknown")),
            short if short.len() > 1 && short.starts_with('-') => {
                for letter in short.chars().skip(1) {
                    match letter {
                        'f' => options.fail = true,
                        's' => options.silent = true,
                        'S' => options.show_error = true,
                        'L' => options.follow = true,
                        'k' => options.insecure = true,
                        'o' => options.output = Some(value()?),
                        'm' => options.max_time = Some(seconds(value()?)?),
                        letter => return Err(format!("option -{letter}: is unknown")),
                    }
                }
            }
            url => options.urls.push(url.to_owned()),
        }
    }
    if options.urls.len() > 1 {
        return Err("only one URL is supported here".to_owned());
    }
    Ok(options)
}

//! Tables: a script, what it prints, its status.

use std::sync::Arc;

use super::super::disk::Disk;
use super::super::image::OsManifest;
use super::super::os::Os;
use super::super::rootfs::RootFs;
use super::super::rootfs::tests::AREA;
use super::super::tests::chassis;
use super::exec::Shell;
use super::io::{Io, Out};

fn os() -> Arc<Os> {
    let chassis = chassis();
    let disk: Disk = chassis.disks[0].clone();
    let manifest = OsManifest {
        name: "os".to_owned(),
        version: "1".to_owned(),
        cloud_init: Vec::new(),
        root: Some(AREA),
    };
    Arc::new(Os::new(
        &chassis,
        RootFs::mount(&disk, AREA).unwrap(),
        &manifest,
        &disk,
    ))
}

/// Output of both streams, and the status.
async fn run(os: &Arc<Os>, script: &str) -> (String, u8) {
    let out = Out::buffer();
    let io = Io {
        stdout: out.clone(),
        stderr: out.clone(),
        stdin: Arc::default(),
    };
    let status = Shell::new(os.clone()).run(script, &io).await.expect("no halt");
    (String::from_utf8(out.take()).unwrap(), status)
}

#[tokio::test(start_paused = true)]
async fn scripts() {
    let cases: &[(&str, &str, u8)] = &[
        ("echo a b", "a b\n", 0),
        ("echo 'a  b' \"c  d\" e\\ f", "a  b c  d e f\n", 0),
        (
            "A=1; B=\"$A 2\"; echo $B \"$B\" '$B' ${B}x",
            "1 2 1 2 $B 1 2x\n",
            0,
        ),
        ("A='a  b'; echo $A; echo \"$A\"", "a b\na  b\n", 0),
        (
            "echo ${X:-def} ${X-def} ${X:+alt}end; X=v; echo ${X:-def} ${X:+alt}",
            "def def end\nv alt\n",
            0,
        ),
        ("echo ${X:=set} $X", "set set\n", 0),
        (": ${X:?is needed}; echo never", "sh: 1: X: is needed\n", 2),
        (
            "F=/a/b.tar.gz; echo ${F##*/} ${F%.*} ${F%%.*} ${F#/} ${#F}",
            "b.tar.gz /a/b.tar /a/b a/b.tar.gz 11\n",
            0,
        ),
        ("echo $(echo in; echo ner) `echo back`", "in ner back\n", 0),
        ("echo $((2 + 3 * (4 - 1))) $((7 % 4 == 3))", "11 1\n", 0),
        (
            "true && echo yes || echo no; false && echo yes || echo no",
            "yes\nno\n",
            0,
        ),
        ("! true; echo $?; ! false; echo $?", "1\n0\n", 0),
        ("nonsense --x; echo $?", "sh: 1: nonsense: not found\n127\n", 0),
        ("\n\nnonsense", "sh: 3: nonsense: not found\n", 127),
        (
            "if false; then echo a; elif true; then echo b; else echo c; fi",
            "b\n",
            0,
        ),
        (
            "if ! command -v kubeadm >/dev/null 2>&1; then echo install; fi; echo $?",
            "0\n",
            0,
        ),
        (
            "command -v kubeadm; command -v echo; command -v apt-get || echo none",
            "/usr/bin/kubeadm\necho\nnone\n",
            0,
        ),
        (
            "for i in 1 2 3; do [ $i = 2 ] && continue; echo $i; done",
            "1\n3\n",
            0,
        ),
        (
            "i=0; while [ $i -lt 3 ]; do i=$((i+1)); if [ $i -eq 2 ]; then break; fi; done; echo $i",
            "2\n",
            0,
        ),
        (
            "case v1.34 in v1.3[0-3]) echo old;; v1.*|v2) echo new;; *) echo other;; esac",
            "new\n",
            0,
        ),
        ("case '*' in \\*) echo star;; esac", "star\n", 0),
        ("f() { echo \"$1-$#\"; return 3; }; f a b; echo $?", "a-2\n3\n", 0),
        (
            "set -e; false || true; if false; then :; fi; ! true; echo on; false; echo off",
            "on\n",
            1,
        ),
        (
            "set -e; f() { false; echo still; }; f || true; echo end",
            "still\nend\n",
            0,
        ),
        (
            "set -u; echo $NOPE; echo never",
            "sh: 1: NOPE: parameter not set\n",
            2,
        ),
        ("set -o pipefail; false | true; echo $?", "1\n", 0),
        ("false | true; echo $?", "0\n", 0),
        (
            "(exit 4); echo $?; (A=1; exit 0); echo ${A:-unset}",
            "4\nunset\n",
            0,
        ),
        ("exit 3; echo never", "", 3),
        (
            "echo 'echo inner $1; exit 5' | sh -s arg; echo $?",
            "inner arg\n5\n",
            0,
        ),
        ("echo 'exit 5' | sh -; echo $?", "5\n", 0),
        ("sh -c 'echo $0 $1' zero one", "zero one\n", 0),
        ("A=1 sh -c 'echo $A'; echo ${A:-gone}", "1\ngone\n", 0),
        ("export A=2; B=3; sh -c 'echo $A ${B:-none}'", "2 none\n", 0),
        (
            "mkdir -p /d/e; echo x > /d/e/f; echo y >> /d/e/f; cat /d/e/f; ls /d",
            "x\ny\ne\n",
            0,
        ),
        (
            "cat <<EOF\na $((1+1)) $(echo b)\nEOF\ncat <<'EOF'\na $X\nEOF",
            "a 2 b\na $X\n",
            0,
        ),
        ("cat > /h <<-EOT\n\tline\n\tEOT\ncat /h", "line\n", 0),
        (
            "cat </nope; echo $?",
            "sh: 1: cannot open /nope: No such file or directory\n1\n",
            0,
        ),
        (
            "echo err >&2; echo out 2>/dev/null; nonsense 2>/dev/null; echo $?",
            "err\nout\n127\n",
            0,
        ),
        (
            "printf '%s=%d\\n' a 1 b 2; printf 'no newline'",
            "a=1\nb=2\nno newline",
            0,
        ),
        (
            "echo 'a:b:c' | cut -d: -f2; echo abc | tr b x; printf '1\\n2\\n3\\n' | tail -n 2 | head -1",
            "b\naxc\n2\n",
            0,
        ),
        (
            "printf 'one\\ntwo\\n' | grep -q two && echo found; echo one | grep -v one; echo $?",
            "found\n1\n",
            0,
        ),
        (
            "printf 'a b\\nc d\\n' | while read x y; do echo $y$x; done",
            "ba\ndc\n",
            0,
        ),
        (
            "[ -f /nope ] || [ -d /etc ] || echo neither; test -n x -a 1 -lt 2 && echo both",
            "neither\nboth\n",
            0,
        ),
        (
            "set -- a 'b c'; for x; do echo \"<$x>\"; done; echo \"$#:$*\"; shift; echo $1",
            "<a>\n<b c>\n2:a b c\nb c\n",
            0,
        ),
        (
            "systemctl enable --now kubelet && systemctl is-enabled kubelet; systemctl is-active kubelet",
            "enabled\nactive\n",
            0,
        ),
        (
            "systemctl start nothing; echo $?",
            "Failed to start nothing: Unit nothing.service not found.\n5\n",
            0,
        ),
        (
            "hostnamectl set-hostname n7; hostname; cat /etc/hostname",
            "n7\nn7\n",
            0,
        ),
        (
            "sysctl -w net.ipv4.ip_forward=1; modprobe br_netfilter; uname -m",
            "net.ipv4.ip_forward = 1\nx86_64\n",
            0,
        ),
        (
            "eval 'X=5'; echo $X; echo 'Y=6' > /env; . /env; echo $Y",
            "5\n6\n",
            0,
        ),
        ("echo a # comment\n# another\necho b", "a\nb\n", 0),
        ("if true\nthen\n  echo multi \\\n    line\nfi", "multi line\n", 0),
        ("{ echo g; echo h; } > /g; cat /g", "g\nh\n", 0),
        ("curl -Q x", "curl: option -Q: is unknown\n", 2),
        (
            "curl -sS http://10.9.9.9/x; echo $?",
            "curl: (7) 10.9.9.9:80: could not connect: no route to 10.9.9.9\n7\n",
            0,
        ),
        (
            "kubeadm join 1.2.3.4:6443 --token bad",
            "error execution phase: --token is missing or not of the form [a-z0-9]{6}.[a-z0-9]{16}\n",
            1,
        ),
    ];
    for (script, output, status) in cases {
        let os = os();
        let (got, code) = run(&os, script).await;
        // The unit's name is printed with its suffix, which is noise here.
        let got = got.replace("nothing.service: Unit", "nothing: Unit");
        assert_eq!((got.as_str(), code), (*output, *status), "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn syntax_errors_run_nothing() {
    let cases = [
        (
            "echo never; if true; then echo x",
            "sh: 1: Syntax error: end of file unexpected (expecting \"fi\")\n",
        ),
        (
            "echo never\necho 'open",
            "sh: 2: Syntax error: Unterminated quoted string\n",
        ),
        (
            "echo never; sleep 1 &",
            "sh: 1: Syntax error: background jobs (\"&\") are not supported here\n",
        ),
        ("fi", "sh: 1: Syntax error: \"fi\" unexpected\n"),
        ("echo never )", "sh: 1: Syntax error: \")\" unexpected\n"),
        ("echo ${}", "sh: 1: Syntax error: Bad substitution\n"),
    ];
    for (script, expected) in cases {
        let (got, status) = run(&os(), script).await;
        assert_eq!((got.as_str(), status), (expected, 2), "{script}");
    }
    let deep = format!("{}true{}", "(".repeat(500), ")".repeat(500));
    assert_eq!(
        run(&os(), &deep).await.1,
        2,
        "deep nesting is refused, not crashed on"
    );
}

#[tokio::test(start_paused = true)]
async fn runaways_end() {
    let os = os();
    let (got, status) = run(&os, "while true; do :; done; echo never").await;
    assert_eq!((got.as_str(), status), ("sh: 1: a loop ran 100000 times\n", 2));
    let (got, status) = run(&os, "f() { f; }; f; echo never").await;
    assert_eq!(
        (got.as_str(), status),
        ("sh: 1: too many function calls inside each other\n", 2)
    );
    // The deepest nesting of both kinds at once still fits a thread's stack.
    for (open, close) in [("( ", " )"), ("{ ", "; }"), ("if true; then ", "; fi")] {
        let deep = format!("f() {{ {}f{}; }}; f; echo $?", open.repeat(20), close.repeat(20));
        let (got, _) = run(&os, &deep).await;
        assert!(got.contains("inside each other"), "{open}: {got}");
    }
}

#[tokio::test(start_paused = true)]
async fn reboot_stops_everything() {
    let io = Io::console(&os().chassis.console);
    for script in [
        "reboot; echo never > /f",
        "sh -c 'true && reboot'",
        "echo reboot | sh -",
        "x=$(reboot)",
    ] {
        let os = os();
        let end = Shell::new(os.clone()).run(script, &io).await;
        assert_eq!(end, Err(super::super::chassis::End::Reboot), "{script}");
        assert!(!os.fs.is_file("/f"));
    }
}

mod properties {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Scripts come from outside: whatever they are, the parser answers.
        #[test]
        fn the_parser_never_panics(text in "[ -~\n]{0,200}") {
            let _ = super::super::parse::parse(&text);
        }

        #[test]
        fn shell_like_text_neither(text in r#"(if|then|fi|do|done|case|esac|in|\$\(|\)|\{|\}|"|'|`|<<E|\n|;|&&|\||x| ){0,60}"#) {
            let _ = super::super::parse::parse(&text);
        }
    }
}

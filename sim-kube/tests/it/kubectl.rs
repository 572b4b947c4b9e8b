//! The real kubectl over TLS. Skipped, aloud, only where kubectl is not installed.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, cluster};

struct Kubectl<'a> {
    kubeconfig: &'a Path,
    cache: &'a Path,
}

impl Kubectl<'_> {
    /// Exit code, and both outputs together.
    async fn run(&self, line: &str, input: &str) -> (i32, String) {
        let mut child = Command::new("kubectl")
            .args(line.split(' '))
            .env("KUBECONFIG", self.kubeconfig)
            .env("KUBECACHEDIR", self.cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.expect("kubectl reads");
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .expect("kubectl ends")
            .expect("output");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.heldout.example}
spec:
  group: heldout.example
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, shortNames: [gdg]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Colour, type: string, jsonPath: .spec.colour}]
    schema:
      openAPIV3Schema:
        type: object
        description: A gadget for tests.
        properties:
          spec:
            type: object
            required: [colour]
            properties: {colour: {type: string, enum: [red, green]}}
          status: {type: object, properties: {phase: {type: string}}}
"#;

fn gadget(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: heldout.example/v1\nkind: Gadget\nmetadata: {{name: {name}, namespace: hk}}\nspec: {spec}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "a skipped test has to say so")]
async fn kubectl_believes_it() {
    if Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .await
        .is_err()
    {
        println!("SKIPPED: kubectl is not installed; install it to run this test");
        return;
    }
    let cluster = cluster();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sim_kube::serve(listener, cluster.server.clone(), stop));
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, cluster.server.admin_kubeconfig(&url)).expect("written");
    let kubectl = Kubectl {
        kubeconfig: &kubeconfig,
        cache: folder.path(),
    };

    let (good, bad) = (gadget("a", "{colour: red}"), gadget("b", "{colour: pink}"));
    let typo = gadget("b", "{colour: red, nope: 1}");
    let (good, bad, typo) = (good.as_str(), bad.as_str(), typo.as_str());
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: hk}\nspec: {containers: [{name: a, image: img-x}, {name: b, image: img-y}]}\n";
    for (line, input, code, want) in [
        ("create ns hk", "", 0, "namespace/hk created\n"),
        (
            "apply -f -",
            DEFINITION,
            0,
            "customresourcedefinition.apiextensions.k8s.io/gadgets.heldout.example created\n",
        ),
        (
            "apply -f -",
            DEFINITION,
            0,
            "customresourcedefinition.apiextensions.k8s.io/gadgets.heldout.example unchanged\n",
        ),
        ("apply -f -", good, 0, "gadget.heldout.example/a created\n"),
        ("apply -f -", good, 0, "gadget.heldout.example/a unchanged\n"),
        (
            "apply -f -",
            bad,
            1,
            "The Gadget \"b\" is invalid: spec.colour: Unsupported value: \"pink\": supported values: \"red\", \"green\"\n",
        ),
        (
            "apply -f -",
            typo,
            1,
            "Error from server (BadRequest): error when creating \"STDIN\": Gadget in version \"v1\" cannot be handled as a Gadget: strict decoding error: unknown field \"spec.nope\"\n",
        ),
        (
            "-n hk patch gdg a --subresource status --type merge -p {\"status\":{\"phase\":\"Good\"}}",
            "",
            0,
            "gadget.heldout.example/a patched\n",
        ),
        (
            "-n hk wait gdg/a --for=jsonpath={.status.phase}=Good --timeout=10s",
            "",
            0,
            "gadget.heldout.example/a condition met\n",
        ),
        (
            "-n hk get gdg -o custom-columns=N:.metadata.name,C:.spec.colour",
            "",
            0,
            "N     C\na     red\n",
        ),
        (
            "apply --server-side --field-manager=x -f -",
            good,
            0,
            "gadget.heldout.example/a serverside-applied\n",
        ),
        (
            "-n hk wait sa/default --for=create --timeout=10s",
            "",
            0,
            "serviceaccount/default condition met\n",
        ),
        ("apply -f -", pod, 0, "pod/p created\n"),
        (
            "-n hk patch pod p -p {\"spec\":{\"containers\":[{\"name\":\"b\",\"image\":\"img-z\"}]}}",
            "",
            0,
            "pod/p patched\n",
        ),
        (
            "-n hk get pod p -o jsonpath={.spec.containers[*].image}",
            "",
            0,
            "img-x img-z",
        ),
        ("auth can-i create gadgets -n hk", "", 0, "yes\n"),
        (
            "auth can-i list secrets -n hk --as=system:serviceaccount:hk:default",
            "",
            1,
            "no\n",
        ),
        (
            "-n hk create secret generic s --from-literal=a=b",
            "",
            0,
            "secret/s created\n",
        ),
        ("-n hk get secret s -o jsonpath={.data.a}", "", 0, "Yg=="),
        ("delete ns hk --timeout=20s", "", 0, "namespace \"hk\" deleted\n"),
        ("get gdg -A", "", 0, "No resources found\n"),
        (
            "delete crd gadgets.heldout.example --timeout=20s",
            "",
            0,
            "customresourcedefinition.apiextensions.k8s.io \"gadgets.heldout.example\" deleted\n",
        ),
    ] {
        let (exit, output) = kubectl.run(line, input).await;
        assert_eq!((exit, output.as_str()), (code, want), "kubectl {line}");
    }
    let (_, explained) = kubectl.run("explain pods.spec.containers.image", "").await;
    assert!(explained.contains("FIELD: image <string>"), "{explained}");
    let (_, table) = kubectl.run("get ns default", "").await;
    assert!(
        table.starts_with("NAME      STATUS   AGE\ndefault   Active   "),
        "{table}"
    );
}

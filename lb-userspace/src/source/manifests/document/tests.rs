//! Files as kubectl prints them, as people write them, and as an editor leaves them half written.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn objects(text: &str) -> Vec<String> {
    let contents = parse(text).unwrap();
    let objects = contents.objects.iter();
    let objects =
        objects.map(|(line, object)| format!("{line} {} {}", object.kind().word(), object.name()));
    objects.collect()
}

#[track_caller]
fn mistake(text: &str) -> (u64, String) {
    let mistake = parse(text).unwrap_err();
    (mistake.line, mistake.reason)
}

const SAMPLE: &str = "\
# Two documents and a List.
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.1
  ports: [{port: 80, targetPort: http}]
---
spec: {nodeName: node-1}
kind: Pod
apiVersion: v1
metadata:
  name: web-1
---
apiVersion: v1
kind: List
items:
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-abc, namespace: shop}
  addressType: IPv4
  endpoints: []
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web}
- apiVersion: v1
  kind: Node
  metadata: {name: node-1}
";

#[test]
fn documents_and_items_of_lists_are_found_with_their_lines() {
    assert_eq!(
        objects(SAMPLE),
        [
            "2 Service default/web",
            "9 Pod default/web-1",
            "18 EndpointSlice shop/web-abc",
            "26 Node /node-1"
        ]
    );
    assert_eq!(parse(SAMPLE).unwrap().skipped, [(23, "Deployment".to_string())]);
}

#[test]
fn what_kubectl_prints_is_read_whole() {
    assert_eq!(
        objects(include_str!("kubectl.yaml")),
        [
            "3 Service shop/web",
            "65 EndpointSlice shop/web-lqvr4",
            "112 Pod shop/web-6d4cf56db6-x2kqv",
            "199 Node /node-1",
        ]
    );
}

#[test]
fn json_is_read_too() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"List\",\n\t\"items\": [\n\t\t{\"kind\": \"Service\", \"apiVersion\": \"v1\", \"metadata\": {\"name\": \"web\"}}\n\t]\n}\n";
    assert_eq!(objects(text), ["5 Service default/web"]);
}

#[test]
fn items_of_a_service_list_need_not_say_what_they_are() {
    assert_eq!(
        objects("kind: ServiceList\napiVersion: v1\nitems:\n- metadata: {name: web}\n"),
        ["4 Service default/web"]
    );
    assert_eq!(objects("kind: List\napiVersion: v1\nitems: []\n"), [""; 0]);
    assert_eq!(objects("kind: List\napiVersion: v1\n"), [""; 0]);
}

#[test]
fn empty_documents_comments_directives_and_line_ends_of_any_kind_mean_nothing() {
    for text in ["", "\n\n", "# nothing\n", "---\n---\n# nothing\n---\n", "\u{feff}"] {
        assert_eq!(objects(text), [""; 0], "{text:?}");
    }
    assert_eq!(
        objects(
            "%YAML 1.2\n---\r\nkind: Service\r\nmetadata: {name: a}\r\n--- # next\r\nkind: Service\r\nmetadata: {name: b}\r\n...\r\n"
        ),
        ["3 Service default/a", "6 Service default/b"]
    );
}

#[test]
fn kinds_of_other_groups_and_versions_are_skipped_and_named() {
    let text = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n---\nkind: Ingress\nspec: [1, 2]\n";
    let skipped = parse(text).unwrap().skipped;
    assert_eq!(
        skipped,
        [
            (1, "Service (serving.knative.dev/v1)".to_string()),
            (5, "EndpointSlice (discovery.k8s.io/v1beta1)".to_string()),
            (8, "Ingress".to_string()),
        ]
    );
}

#[test]
fn a_mistake_has_its_line_its_reason_and_what_stands_there() {
    assert_eq!(
        mistake(
            "---\n# c\nkind: Service\nmetadata: {name: a}\n---\nkind: Service\nmetadata: {name: b}\nspec:\n  ports:\n  - port: many\n"
        ),
        (10, "invalid i32, in `- port: many`".to_string())
    );
    let (line, reason) = mistake(
        "kind: List\nitems:\n- kind: Service\n  metadata: {name: a}\n  spec:\n    ports: 80\n",
    );
    assert_eq!((line, reason.as_str()), (6, "expected sequence start, in `ports: 80`"));
    let (line, reason) = mistake("kind: Service\nmetadata:\n\tname: a\n");
    assert_eq!(line, 3);
    assert!(reason.contains("tabs"), "{reason}");
}

#[test]
fn an_object_that_does_not_say_what_or_who_it_is_is_a_mistake() {
    assert_eq!(mistake("metadata: {name: a}\n"), (1, "an object without a kind".to_string()));
    assert_eq!(
        mistake("kind: Pod\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {generateName: a-}\n"),
        (4, "a Pod without metadata.name".to_string())
    );
    assert_eq!(mistake("just words\n").0, 1);
    assert_eq!(mistake("- kind: Pod\n").0, 1);
}

#[test]
fn the_state_of_the_largest_cluster_is_no_more_than_is_allowed() {
    // 150,000 endpoints as kubectl prints them, at some forty nodes each.
    assert!(options().budget.unwrap().max_nodes > 150_000 * 40);
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        text += &format!("a{i}: &a{i} [{aliases}]\n");
    }
    assert!(parse(&(text + "kind: Service\nmetadata: {name: a}\n")).is_err());
}

proptest! {
    #[test]
    fn a_truncated_file_never_panics_and_holds_no_more_than_the_whole(cut in 0..SAMPLE.len()) {
        if let Ok(contents) = parse(&SAMPLE[..cut]) {
            prop_assert!(contents.objects.len() <= 4);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in r"([a-z]+|[-:{}\[\]#&*!|>'%@,?]|\n|  |---|kind: Service|items:|é|\t|\r){0,40}") {
        parse(&text).ok();
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0..SAMPLE.len(), with in ".{0,3}") {
        let text = format!("{}{with}{}", &SAMPLE[..at], &SAMPLE[at + 1..]);
        parse(&text).ok();
    }
}

//! Lists of users with lines by which nobody can log in.

use kubeng_config::problem::USERS_UNUSABLE;

use super::*;

/// What is told of a list of users, at the override that names it.
#[track_caller]
fn told(shop: &World, users: &str) -> Vec<String> {
    let patch = json!({"auth": {"basic": {"secretRef": {"name": "users"}}}});
    let changes = [secret("users", json!({"auth": users})), over("login", patch)];
    let world = shop.step(&changes).world;
    assert_eq!(closed_routes(&world), [""; 0], "it is protected all the same: {users:?}");
    assert_eq!(secrets_on_routes(&world).len(), 1, "{users:?}");
    let problems = world.problems();
    let told = problems.map(|problem| {
        assert_eq!(problem.subject.to_string(), "RouteOverride/shop/login");
        assert_eq!(problem.field, "/spec/patch/auth/basic/secretRef");
        assert_eq!(problem.code, USERS_UNUSABLE);
        for form in ["bcrypt", "SHA-crypt", "$apr1$", "{SHA}"] {
            assert!(problem.remedy.contains(form), "{}", problem.remedy);
        }
        problem.message.clone()
    });
    told.collect()
}

#[test]
fn a_line_by_which_nobody_can_log_in_is_told_and_never_shown() {
    let shop = shop();
    let good = ANN;
    let check = |users: &str, parts: &[&str]| {
        let told = told(&shop, users);
        assert_eq!(told.len(), usize::from(!parts.is_empty()), "{users:?}: {told:?}");
        for part in parts {
            assert!(told[0].contains(part), "{part:?}: {told:?}");
        }
        for hidden in ["s3cret", "alice", "bob", "ann"] {
            assert!(told.iter().all(|told| !told.contains(hidden)), "{told:?}");
        }
    };
    check(good, &[]);
    check(&format!("# people\n\n{good}\n"), &[]);
    check("alice:s3cret", &["\"users\"", "\"auth\"", "line 1: its hash has a form"]);
    check("alice:$1$s3cret$aaaaaaaaaaaaaaaaaaaaaa", &["line 1: its hash has a form"]);
    check("alice:s3cretaaaaaaa", &["line 1: its hash has a form"]);
    check("alice:{PLAIN}s3cret", &["line 1: its hash has a form"]);
    check(&format!("{good}\nbob s3cret\n{good}"), &["line 2: it has no colon"]);
    check(&format!("{good}\nbob:$5$s3cret$short"), &["line 2: its hash is not whole"]);
    check("", &["has no line"]);
    check("# nobody\n\n", &["has no line"]);
    let many = "alice:s3cret\n".repeat(9);
    check(&many, &["line 1: ", "line 5: ", "and 4 more"]);
}

#[test]
fn a_list_that_is_mended_is_told_no_more() {
    let patch = json!({"auth": {"basic": {"secretRef": {"name": "users"}}}});
    let bad = shop().step(&[secret("users", json!({"auth": "ann:x"})), over("login", patch)]).world;
    assert_eq!(bad.problems().count(), 1);
    let mended = bad.step(&[secret("users", json!({"auth": ANN}))]).world;
    assert_eq!(mended.problems().count(), 0);
}

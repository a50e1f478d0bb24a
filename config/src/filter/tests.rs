use super::*;

/// A Filter as it is exported is read back as it was; `text` is its shortest form.
#[track_caller]
fn check(text: &str) {
    let read: Filter = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let written = serde_json::to_string(&read).unwrap();
    let again: Filter = serde_json::from_str(&written).unwrap();
    assert_eq!(read, again, "{written}");
}

#[track_caller]
fn refused(text: &str) {
    assert!(serde_json::from_str::<Filter>(text).is_err(), "{text}");
}

#[test]
fn every_filter_is_read_back_as_it_was_written() {
    check(r#"{"rewrite":{"path":{"regex":{"pattern":"/a/(.*)","substitution":"/$1"}}}}"#);
    check(r#"{"cors":{"allowOrigins":["https://*.a.example"],"allowMethods":"all"}}"#);
    check(r#"{"cors":{"allowOrigins":["*"],"allowHeaders":{"these":["x-a"]}}}"#);
    check(r#"{"clientAddress":{"allow":["10.0.0.0/8","::1/128"],"deny":["10.1.0.0/16"]}}"#);
    check(r#"{"rateLimit":{"key":"clientAddress","requests":5,"perSeconds":1,"burst":10}}"#);
    check(r#"{"concurrencyLimit":{"key":{"header":"x-tenant"},"requests":5,"status":503}}"#);
    check(r#"{"basicAuth":{"users":"abc","realm":"Members"}}"#);
    check(
        r#"{"jwt":{"issuer":"https://a","keys":{"secret":"abc"},"algorithms":["HS256"],
            "required":[{"claim":"role","oneOf":["admin"]}]}}"#,
    );
    check(
        r#"{"jwt":{"issuer":"https://a","algorithms":["ES256"],"keys":{"remote":
            {"backend":"Upstream/a/idp","path":"/.well-known/jwks.json","host":"idp.example"}}}}"#,
    );
    check(r#"{"externalAuth":{"backend":"Service/a/auth:80","path":"/check"}}"#);
    check(r#"{"bodyLimit":{"requestBytesMax":10}}"#);
    check(r#"{"requestId":{}}"#);
    check(r#"{"mirror":{"backend":"Service/a/b:80","copied":1,"of":10}}"#);
    check(r#"{"compression":{}}"#);
    check(
        r#"{"errorPages":{"pages":[{"statuses":[404,503],
            "from":{"inline":{"contentType":"text/plain","body":"x"}}}]}}"#,
    );
}

#[test]
fn what_is_out_of_its_limits_is_refused() {
    refused(r#"{"rateLimit":{"key":"route","requests":0,"perSeconds":1,"burst":1}}"#);
    refused(r#"{"rateLimit":{"key":"route","requests":1,"perSeconds":1,"burst":1,"x":1}}"#);
    refused(r#"{"rateLimit":{"key":"route","requests":1,"perSeconds":1,"burst":1,"status":500}}"#);
    refused(r#"{"clientAddress":{"allow":["10.0.0.0/33"]}}"#);
    refused(r#"{"compression":{"level":10}}"#);
    refused(r#"{"errorPages":{"pages":[{"statuses":[200],"from":{"backend":"Service/a/b:80"}}]}}"#);
    refused(r#"{"jwt":{"issuer":"a","keys":{"secret":"b"},"algorithms":["none"]}}"#);
    let remote = |more: &str| {
        let at = format!(r#""backend":"Upstream/a/idp","path":"/keys"{more}"#);
        format!(r#"{{"jwt":{{"issuer":"a","algorithms":[],"keys":{{"remote":{{{at}}}}}}}}}"#)
    };
    check(&remote(""));
    refused(&remote(r#","refreshSeconds":4"#));
    refused(&remote(r#","url":"http://169.254.169.254/""#));
    refused(r#"{"mirror":{"backend":"Service/a/b:80","bodyBytesMax":99999999}}"#);
}

#[test]
fn what_a_filter_needs_is_known() {
    let filter = |text: &str| serde_json::from_str::<Filter>(text).unwrap();
    let auth = filter(r#"{"basicAuth":{"users":"abc","realm":"Members"}}"#);
    assert_eq!(auth.secret().map(ToString::to_string).as_deref(), Some("abc"));
    let jwt = r#"{"issuer":"a","algorithms":[],"keys":{"remote":{"backend":"Upstream/a/idp","path":"/"}}}"#;
    let jwt = filter(&format!(r#"{{"jwt":{jwt}}}"#));
    assert_eq!(jwt.backends(), [&"Upstream/a/idp".parse().unwrap()]);
    let mirror = filter(r#"{"mirror":{"backend":"Service/a/b:80"}}"#);
    assert_eq!(mirror.backends(), [&"Service/a/b:80".parse().unwrap()]);
    assert!(filter(r#"{"compression":{}}"#).backends().is_empty());
}

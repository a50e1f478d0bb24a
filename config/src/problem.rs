//! Problems: what is wrong with an Object, and what would be right.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::name::{NameError, ObjectKey, serde_as_text};
use crate::provenance::Provenance;

/// How bad a Problem is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Something is not served as it was written.
    Error,
    /// It is served, but somebody should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// What a Problem is about.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// An Object.
    Object(ObjectKey),
    /// Something that did not become an Object: a file, a source, an unknown kind.
    Other(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(key) => write!(f, "{key}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Something wrong with one Object: field, code, message, remedy.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// The field, as a JSON Pointer (RFC 6901); empty for the Object as a whole.
    pub field: String,
    /// What kind of Problem it is.
    pub code: Code,
    /// What is wrong, with the value.
    pub message: String,
    /// What would be right.
    pub remedy: String,
    /// Where it was read; for a file the line of the field where it is known.
    pub provenance: Option<Provenance>,
}

impl Problem {
    /// How bad it is: a property of the code.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.page().severity
    }
}

/// One line: where, how bad, code, Object and field, what, remedy.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(provenance @ Provenance::File { .. }) = &self.provenance {
            write!(f, "{provenance}: ")?;
        }
        write!(f, "{} {} {}", self.severity(), self.code, self.subject)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", &self.code)?;
        map.serialize_entry("severity", &self.severity())?;
        map.serialize_entry("object", &self.subject.to_string())?;
        map.serialize_entry("field", &self.field)?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("remedy", &self.remedy)?;
        match &self.provenance {
            Some(Provenance::File { path, line }) => {
                map.serialize_entry("file", path)?;
                map.serialize_entry("line", line)?;
            }
            Some(Provenance::Cluster { version }) => {
                map.serialize_entry("resourceVersion", version)?;
            }
            Some(Provenance::Product) | None => {}
        }
        map.end()
    }
}

/// A stable code: `KNG-1201`. Codes are never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Code(u16);

impl Code {
    /// The reference page of the code.
    ///
    /// # Panics
    /// Never: codes are made from [`CODES`] only.
    #[must_use]
    pub fn page(self) -> &'static Page {
        CODES.iter().find(|page| page.code == self).expect("every code stands in CODES")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KNG-{}", self.0)
    }
}

impl FromStr for Code {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        CODES
            .iter()
            .map(|page| page.code)
            .find(|code| code.to_string() == text)
            .ok_or(NameError::Form { text: text.into(), form: "a known code such as KNG-1001" })
    }
}

serde_as_text! { Code }

/// The reference page of one code.
#[derive(Debug)]
pub struct Page {
    /// The code.
    pub code: Code,
    /// How bad such a Problem is.
    pub severity: Severity,
    /// A few words.
    pub title: &'static str,
    /// What it means, and what happens to the traffic.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Declares the codes and their pages in one place.
macro_rules! codes {
    ($($name:ident = $number:literal $severity:ident, $title:literal, $meaning:literal, $remedy:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code($number);)*

        /// Every code, in order.
        pub const CODES: &[Page] = &[$(Page {
            code: $name,
            severity: Severity::$severity,
            title: $title,
            meaning: $meaning,
            remedy: $remedy,
        }),*];
    };
}

codes! {
    UNKNOWN_FIELD = 1001 Error, "Unknown field",
        "The object has a field that its kind does not have. The field has no effect; an object of a kind of Kubeng is not taken at all, because the field may have been meant to protect something: what was known of it goes on being served, and where nothing was, routes of an Upstream refuse.",
        "Mend the name of the field, or remove it.";
    BAD_VALUE = 1002 Error, "Value of wrong type or range",
        "A field has a value that cannot be used. A Rule that needs it is refused in its place; a value that only tunes keeps its default. Where it cannot be told which requests an Ingress means, all that it may mean under its hosts is refused: no wildcard, no rule without a host and no default backend takes it. What another object has under the same host goes on being served.",
        "Write a value of the form that the message names.";
    DEFINED_TWICE = 1003 Error, "Object defined twice",
        "Two sources, or two documents of one folder, define the same object. The one that is named first in the settings, or stands first in the order of files, is served.",
        "Remove one of the two.";
    UNREADABLE = 1004 Error, "Not readable",
        "A file or document is not valid YAML or JSON, or could not be read. What was last read from it goes on being served.",
        "Mend the place that the message names; the file is read again as soon as it changes.";
    UNSUPPORTED_VERSION = 1005 Error, "Version not supported",
        "The object is of a kind that is served, but in an API version that is not. What was last known of it goes on being served; where nothing was, the hosts and paths of an Ingress and the routes of an Upstream refuse, as far as they can be read, so that nothing wider takes their requests.",
        "Write it in the version that the message names.";
    NGINX_CLOSED = 1006 Error, "Closed because of annotations of ingress-nginx",
        "An Ingress has annotations under nginx.ingress.kubernetes.io/ that are not understood and that kept somebody out, or decided which requests it takes and how they reach its backend. Its rules are answered with 503 rather than served without them; of a canary and of paths that are regular expressions only what no other rule takes.",
        "Write what does the same in its typed form and remove the annotations, or annotate the Ingress with kubeng.io/ignore-nginx-annotations: \"true\".";
    NGINX_IGNORED = 1007 Warning, "Annotations of ingress-nginx without effect",
        "An Ingress has annotations under nginx.ingress.kubernetes.io/ that are not understood. They have no effect.",
        "Write what does the same in its typed form, and remove the annotations.";
    NGINX_WAIVED = 1008 Warning, "Annotations of ingress-nginx ignored on demand",
        "An Ingress has annotations under nginx.ingress.kubernetes.io/, and one that says that they are to be ignored. It is served as if it had none of them.",
        "Nothing, if that is meant; else remove kubeng.io/ignore-nginx-annotations.";
    BACKEND_NOT_FOUND = 1101 Error, "Backend does not exist",
        "A Rule names a Service or Upstream that does not exist. Its requests are answered with 503 until it does. Where an override names it, what only tunes has no effect, and what protects closes its Routes.",
        "Create it, or name another one.";
    FLEET_NOT_PERMITTED = 1103 Error, "Fleet not allowed for the namespace",
        "An object is for a fleet that does not allow its namespace. It is not served there, and never moved to another fleet.",
        "Name a fleet that allows the namespace, or let the Fleet list it in namespaces.";
    PORT_NOT_FOUND = 1105 Error, "Service has no such port",
        "A Rule names a port that the Service does not have. Its requests are answered with 503.",
        "Name one of the ports that the message lists.";
    KIND_NOT_SERVED = 1106 Error, "Backend of a kind that is not served",
        "A Rule names a resource that is not an Upstream. Its requests are answered with 503.",
        "Name a Service, or an Upstream of group kubeng.io.";
    EXTERNAL_NAME_OFF = 1107 Error, "ExternalName is off",
        "A Rule leads to a Service of type ExternalName, which could reach hosts that only the proxy can reach. Its requests are answered with 503.",
        "Use an Upstream, or allow it with --allow-external-name.";
    SECRET_NOT_FOUND = 1108 Error, "Secret missing or not readable",
        "A tls section or an override names a Secret that does not exist, that lacks the entry, or that Kubeng may not read. Hosts of a tls section get the default certificate; Routes that are to be protected by the Secret answer 503.",
        "Create the Secret with the entries that the message names, name another one, or grant Kubeng the right to read it.";
    CLASS_NOT_FOUND = 1109 Warning, "Class does not exist",
        "An Ingress names an IngressClass that does not exist. It is not served.",
        "Create the IngressClass, or name another one.";
    NOT_AS_BYTES = 1110 Error, "Backend cannot be reached by plain TCP",
        "A listener of plain TCP leads to a Backend that is to be spoken to over TLS. Its bytes would go there in clear, so its connections are closed.",
        "Let it lead to a port that speaks no TLS, or pass TLS on by server name.";
    FLEET_NOT_FOUND = 1111 Error, "Fleet does not exist",
        "A class or an object is for a fleet that does not exist, or for none. It is not served there, and never moved to another fleet.",
        "Create the Fleet, or name one that exists.";
    CLASS_TAKEN = 1112 Warning, "Class belongs to another",
        "A Fleet lists a class that an older Fleet lists, too, that names another fleet in its parameters, or that belongs to another controller. Its objects are not served by this fleet.",
        "Remove the class from one of the two.";
    FLEET_NOT_SERVED = 1113 Warning, "Fleet is not served by this process",
        "There is a Fleet, and the process was started to serve what its settings say: kubeng run without --fleet. Listeners, namespaces and defaults of the Fleet have no effect on it. Classes that the Fleet lists are served by the settings as before; a class whose parameters name the Fleet is not served by this process, because it may be meant for a tenant of that Fleet alone.",
        "Start kubeng run with --fleet, or let kubeng controller serve the Fleet and name with --ingress-class what is for this process.";
    NO_CLASS = 1114 Warning, "Ingress without class",
        "An Ingress of a folder names no class, and no IngressClass is the default. It is not served. In a cluster such an Ingress may be meant for another controller, so nothing is said of it there.",
        "Set ingressClassName, or start Kubeng with --without-class.";
    NO_PUBLISHED_ADDRESS = 1115 Warning, "No address to publish",
        "The Service that --publish-service names does not exist or has no address. Statuses of Ingresses are not written until it has one; those that were written stay. Traffic is not touched.",
        "Create the Service, wait for the address of its load balancer, set externalIPs, or name another Service.";
    CONFIG_MAP_NOT_FOUND = 1120 Error, "ConfigMap missing or not readable",
        "An object names a ConfigMap with the authorities that certificates must come from, or an override one with the keys of tokens, and it does not exist, lacks the entry, or may not be read by Kubeng. Without them nothing could be verified, so requests are answered with 503.",
        "Create the ConfigMap with the authorities in ca.crt, or the keys in jwks.json, name another one, or grant Kubeng the right to read it.";
    NOT_PERMITTED = 1121 Error, "Reference not permitted",
        "An object names something of another namespace that it may not name. What needs it is refused.",
        "Name something of the object's own namespace.";
    SHADOWED = 1201 Warning, "Rule never matches",
        "Another Rule takes every request that this one asks for: it is older, or comes first in its object.",
        "Remove one of the two, or give them different hosts or paths.";
    DUPLICATE = 1202 Warning, "Rule written twice",
        "One object holds the same host and path twice. The first one is served.",
        "Remove one of the two.";
    NO_LISTENER = 1204 Warning, "No listener for it",
        "A tls section has no effect because the fleet has no HTTPS listener.",
        "Start Kubeng with --https, or remove the tls section.";
    BAD_HOST = 1206 Error, "Not a host",
        "A host is not a DNS name, nor one below *. The Rule is not served under it.",
        "Write a DNS name such as shop.example.com or *.example.com.";
    BAD_PATH = 1207 Error, "Not a path",
        "A path is not one, or its pathType is unknown. The Rule is not served.",
        "Write an absolute path and one of Exact, Prefix, ImplementationSpecific.";
    NOT_COVERED = 1301 Warning, "Certificate does not cover the host",
        "The certificate of a tls section does not name the host. Browsers will refuse it; it is served all the same.",
        "Put the host into the certificate, or name another Secret.";
    BAD_CERTIFICATE = 1303 Error, "Certificate or key cannot be used",
        "A Secret holds no usable chain and key. Its hosts get the default certificate, also when the Secret could be used before: the same objects are always served in the same way.",
        "Store a PEM chain in tls.crt and its private key in tls.key.";
    CERTIFICATE_ENDED = 1304 Error, "Certificate has ended",
        "A certificate is past its end. It is served all the same, and browsers refuse it.",
        "Store a newer chain and its key in the Secret.";
    CERTIFICATE_ENDS = 1305 Warning, "Certificate ends soon",
        "A certificate ends within 14 days.",
        "Store a newer chain and its key in the Secret.";
    STAPLE_UNUSABLE = 1306 Warning, "OCSP response cannot be stapled",
        "The entry tls.ocsp-staple of a Secret is not an OCSP response that says that its certificate is good, or it is one for another certificate. The certificate is presented without it.",
        "Store the newest response of the authority for the first certificate of tls.crt, in DER, or remove the entry.";
    STAPLE_ENDED = 1307 Warning, "OCSP response has ended",
        "The OCSP response of a Secret holds no longer: its nextUpdate has passed. The certificate is presented without it.",
        "Store a newer response of the authority in tls.ocsp-staple.";
    BAD_AUTHORITIES = 1310 Error, "Authorities cannot be used",
        "The authorities that the certificate of an Upstream or of clients must come from cannot be read as a whole. With what is left of them nobody knows what would be verified, so requests are answered with 503.",
        "Store the certificates of the authorities in PEM, at most 64.";
    CLIENTS_CLOSED = 1311 Error, "Client certificates cannot be asked for",
        "Clients of a host should present certificates, and that cannot be carried out as it is written. What leads there is answered with 503 rather than opened.",
        "Mend what the message names.";
    CLIENTS_CONFLICT = 1312 Error, "Another setting of client certificates counts",
        "What is asked of clients belongs to a host, and another Ingress, or the listener, decides it: of the Ingresses in the namespace of the oldest one of the host the oldest that sets it. Rules that were to be protected otherwise are answered with 503.",
        "Set it in one Ingress of the host only, or in all of them alike.";
    CLIENTS_OVER_TLS = 1313 Warning, "Client certificates need HTTPS",
        "A host requires client certificates, and over plain HTTP nobody can present one. What leads to a Backend there is answered with 403.",
        "Ask over HTTPS; a redirect of the scheme sends clients there.";
    OVERRIDE_CONFLICT = 1401 Warning, "Override conflict",
        "Two overrides of one layer and scope set the same field. The older one keeps it; of two of one age the one whose name comes first. What else the younger one sets counts.",
        "Remove the field from one of the two.";
    OVERRIDE_EXPIRES = 1405 Warning, "Override ends soon",
        "An override ends within 24 hours; then what it changes is as if it did not exist.",
        "Write a later expiresAt, or put what it changes where it belongs.";
    TARGET_MISSING = 1406 Error, "Override without target",
        "An override is for an object or a rule that does not exist. It has no effect; it is never applied to another one.",
        "Name what exists, or remove the override.";
    OVERRIDE_EXPIRED = 1407 Warning, "Override has ended",
        "An override is past its expiresAt and has no effect.",
        "Remove it, or write a later expiresAt.";
    OVERRIDE_NOT_PERMITTED = 1408 Error, "Override for another namespace",
        "An override is for something of another namespace. It has no effect.",
        "Write it in the namespace of what it is for.";
    OVERRIDE_MISFIT = 1409 Error, "Override does not fit its target",
        "An override has a member that what it is for cannot have, or that cannot be carried out with what else is set. The member has no effect if it only tunes; what protects closes the Routes.",
        "Mend what the message names, or remove the member.";
    ROUTE_CLOSED = 1410 Error, "Closed by an override",
        "An override protects a Route and cannot be honoured, so the Route answers 503 rather than open. What is wrong stands at the override.",
        "Mend the override that the message names.";
    USERS_UNUSABLE = 1411 Error, "Users who cannot log in",
        "The list of users that an override names has lines by which nobody can log in, or no line at all. The Routes stay protected: what can be used of the list lets in, and everybody else gets 401.",
        "Write lines of htpasswd: name, colon, and a hash by bcrypt (cost 4 to 14), SHA-crypt ($5$, $6$, 1,000 to 200,000 rounds), $apr1$ or {SHA}.";
    ADDRESS_FORBIDDEN = 1501 Error, "Address not allowed",
        "An address leads to something that only the inside may reach. Nothing is ever sent to it.",
        "Name an address of the service itself. Loopback addresses can be named in manifest folders only.";
    NO_ENDPOINTS = 1502 Error, "No endpoints",
        "An Upstream names no endpoint. Requests for it are answered with 503.",
        "Name at least one address and port.";
    TLS_NAME_MISSING = 1503 Error, "TLS name missing",
        "A service is to be reached over TLS, but no name is known that its certificate must cover. Without one nothing could be verified, so requests for it are answered with 503.",
        "Set tls.serverName.";
    NAME_NOT_RESOLVED = 1504 Error, "Name does not resolve",
        "A DNS name of an Upstream or an ExternalName Service gives no address that may be used. Its last addresses go on being used; without any its requests are answered with 503.",
        "Mend the name or its DNS; it is asked for again every 30 seconds, or as often as the Upstream says.";
    REJECTED = 1701 Error, "Rejected by a replica",
        "A replica could not serve this part and goes on serving what it had.",
        "Mend what the message names; report it if it was accepted by kubeng validate.";
    REMOVAL_HELD = 1702 Warning, "Mass removal held",
        "A list from the cluster lacks so many objects that were there before, or all of them, that it is not believed yet; or a folder of manifests has nothing left. They go on being served until a second list, or look, agrees.",
        "Nothing, if the objects were really removed; else look at the API server and at the rights of Kubeng, or mount or fill the folder again.";
    PORT_NOT_BOUND = 1703 Error, "Port cannot be opened",
        "A listener's address and port cannot be opened. It is tried again every few seconds.",
        "End the other program, choose another port, or grant the right to open ports below 1024.";
    SOURCE_UNREACHABLE = 1704 Error, "Source cannot be reached",
        "A folder or an API server cannot be read. What was last read goes on being served; at start nothing is served until it can.",
        "Check path, address and rights; it is tried again by itself.";
    REFUSED_ON_MACHINE = 1721 Warning, "Refused on the machine",
        "Somebody on the machine of a replica has made a route answer 503 there, for a limited time. Other replicas serve it.",
        "Take it back with kubeng replica emergency --end, or wait until it ends.";
    SAVED_FILE_DAMAGED = 1722 Error, "Saved file cannot be used",
        "A replica keeps what it serves in a file, for a start without a controller. That file was changed, cut short or damaged, or cannot be read. It is not loaded; the one before it is.",
        "Find out who changed it; it is written again with the next change, or by kubeng drift heal.";
    SAVED_FILE_UNWRITABLE = 1723 Error, "Saved file cannot be written",
        "A replica cannot keep what it serves on its disk. It serves on; started without a controller it would serve what was written last.",
        "Make room on the disk, or give the right to write to the folder of --data; it is tried again by itself.";
    REPLICA_TAMPERED = 1740 Error, "Replica changed on the machine",
        "The saved configuration of a replica is not what it wrote, an emergency change is in force there, what it serves is not signed, or its program is not one that it may be. The evidence is kept.",
        "Look at it with kubeng drift show, then heal it, or dismiss it with a reason.";
    REPLICA_DRIFTED = 1741 Error, "Replica runs something else",
        "What a replica decides requests by is not what it acknowledged. The evidence is kept.",
        "Compare it with kubeng compare, then heal it, adopt what differs, or dismiss it with a reason.";
    REPLICA_DIVERGENT = 1742 Error, "Replica answers otherwise",
        "A replica runs what it should, and would serve a request by another Route than the configuration says.",
        "Look at it with kubeng drift show, heal it, and report it.";
    REPLICA_STALE = 1743 Warning, "Replica does not acknowledge",
        "A replica was offered a configuration and has not answered in time. It goes on serving what it had.",
        "Look at its log and its load.";
    REPLICA_SKEWED = 1744 Warning, "Replica is of another version",
        "The program of a replica is of another version than its controller, or cannot read some Parts, which are refused there. It serves on; what one of the two knows and the other does not is rejected with a reason and never passed over.",
        "Bring replicas and controllers to one version: the replicas first, for what a newer controller says an older replica may not be able to read.";
    REPLICA_UNREACHABLE = 1745 Warning, "Replica does not report",
        "A replica has not told of itself for three heartbeats. It may go on serving: it needs no controller for that.",
        "See whether it runs and reaches a controller; kubeng replica forget takes it off the list.";
    CONTROLLERS_DISAGREE = 1746 Error, "Controllers intend different configurations",
        "Two controllers have read equally far and intend different configurations for one fleet, so what its replicas serve depends on which of them they are connected to.",
        "Give all controllers the same settings, the same version and the same manifests.";
    FLEET_ASKED_FOR = 1747 Warning, "Replicas ask for a fleet that does not exist",
        "Replicas have joined with tokens for a fleet of which the controller has no Fleet object, so they are turned away. They serve what they had before, or nothing, and ask again every few seconds.",
        "Write the Fleet; or stop the replicas, mend their --fleet and join them with a token of the fleet that is meant.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_in_order_and_have_full_pages() {
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} comes before {}", pair[0].code, pair[1].code);
        }
        for page in CODES {
            assert_eq!(page.code.to_string().parse::<Code>().unwrap(), page.code);
            assert!(!page.title.is_empty() && page.meaning.ends_with('.'), "{}", page.code);
            assert!(page.remedy.ends_with('.'), "{}", page.code);
        }
    }

    #[test]
    fn a_problem_is_one_line_that_says_where_what_and_what_to_do() {
        let problem = Problem {
            subject: Subject::Object("Ingress/shop/web".parse().unwrap()),
            field: "/spec/rules/0/host".into(),
            code: BAD_HOST,
            message: "\"a b\" has a space".into(),
            remedy: "write a DNS name".into(),
            provenance: Some(Provenance::File { path: "shop.yaml".into(), line: 7 }),
        };
        assert_eq!(
            problem.to_string(),
            "shop.yaml:7: error KNG-1206 Ingress/shop/web /spec/rules/0/host: \
             \"a b\" has a space; write a DNS name"
        );
    }
}

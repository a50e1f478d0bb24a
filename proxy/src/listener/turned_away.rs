//! Why a connection is closed before anything was read of it, or passed on: a closed set, to count.

/// Declares the reasons with their name in metrics.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $metric:literal;)*) => {
        /// Why a connection is closed without a word.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub(crate) enum TurnedAway {
            $($(#[$doc])* $name,)*
        }

        impl TurnedAway {
            /// All reasons, in the order in which they are declared.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in metrics.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $metric,)*
                }
            }
        }
    };
}

reasons! {
    /// The replica has as many as it takes.
    Replica, "replica_full";
    /// So few descriptors are left that they are kept for ourselves.
    Descriptors, "descriptors";
    /// The socket has as many as its Listeners take.
    Listener, "listener_full";
    /// The client has as many as one address may have.
    Address, "address_full";
    /// Too many TLS handshakes are going on.
    Handshakes, "handshakes";
    /// A balancer that must speak the PROXY protocol does not.
    ProxyHeader, "proxy_header";
    /// The header of the PROXY protocol did not arrive in time.
    ProxyHeaderLate, "proxy_header_late";
    /// What should be passed on by its server name is no TLS, or has no name.
    ServerName, "server_name";
    /// The ClientHello did not arrive in time.
    ServerNameLate, "server_name_late";
    /// No Route takes it.
    Route, "route";
    /// Its Route is refused, or nothing can be sent to its Backend.
    Refused, "refused";
    /// No Endpoint could be connected to.
    Endpoint, "endpoint";
}

//! Looking up addresses in a static program.
//!
//! A static C library still looks up names itself, but would load plug-ins of the system's own C
//! library when `nsswitch.conf` names any, and those may be of another version. So it is told to
//! use what is built in: the hosts file, then DNS.

/// Does nothing unless the program is static.
#[cfg(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static"))]
pub(super) fn prepare() {
    use std::ffi::{c_char, c_int};
    use std::sync::Once;

    // SAFETY: the signature is that of the C library; both texts end with a zero and live forever.
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // SAFETY: called once, with texts of the program. It fails only without memory, and then
        // nothing has changed.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    });
}

/// Does nothing unless the program is static.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static")))]
pub(super) const fn prepare() {}

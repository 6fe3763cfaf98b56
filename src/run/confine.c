#include "config.h"

#include "run/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED	1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED	1
#endif
#ifndef SANITIZED
#define SANITIZED	0
#endif

/* All that changes files, and execve().  TRUNCATE came with Linux 6.2, and before that it was not asked. */
#define WRITES	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG)
#define CHANGES	(WRITES | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | \
    LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static bool	 memory_close(void);
static bool	 dumps_close(void);
static bool	 files_close(const char *writable);
static bool	 path_allow(int rules, const char *path, uint64_t access);
static bool	 calls_close(void);

void
confine(const char *writable, char held[CONFINE_WORDS])
{
	bool		 privileges = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
	bool		 memory = !SANITIZED && memory_close();
	/* Both of these want the first. */
	bool		 files = privileges && files_close(writable);
	bool		 calls = privileges && !SANITIZED && calls_close();

	snprintf(held, CONFINE_WORDS, "%s%s%s%s", privileges ? "privileges" : "nothing", memory ? " memory" : "",
	    files ? " files" : "", calls ? " calls" : "");
}

static bool
memory_close(void)
{
	const struct rlimit	 none = { 0, 0 };

	return setrlimit(RLIMIT_CORE, &none) == 0 && dumps_close();
}

static bool
dumps_close(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

void
confine_memory(void)
{
	if (!SANITIZED)
		(void)dumps_close();
}

/* -- files: landlock(7) -- */

static bool
files_close(const char *writable)
{
	const struct landlock_ruleset_attr	 attr = { .handled_access_fs = CHANGES };
	int		 rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	bool		 closed = rules >= 0 && path_allow(rules, "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE);

	if (closed && writable != NULL) {
		char	*path = strdup(writable);

		closed = path != NULL && path_allow(rules, dirname(path), WRITES);
		free(path);
	}
	closed = closed && syscall(SYS_landlock_restrict_self, rules, 0) == 0;
	if (rules >= 0)
		(void)close(rules);
	return closed;
}

static bool
path_allow(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr	 beneath = { .allowed_access = access };
	bool		 allowed;

	beneath.parent_fd = open(path, O_PATH | O_CLOEXEC);
	allowed = beneath.parent_fd >= 0 &&
	    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0;
	if (beneath.parent_fd >= 0)
		(void)close(beneath.parent_fd);
	return allowed;
}

/* -- system calls: seccomp(2) -- */

#ifdef HAVE_SECCOMP
/*
 * A list of what is refused, not of what is allowed: the latter would have to follow each change of
 * libc, libcurl, OpenSSL and libpq, and the worker would die of it.  What is refused answers EPERM.
 */
static const int	refused[] = {
	SCMP_SYS(execve), SCMP_SYS(execveat),
	SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
	SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(chroot), SCMP_SYS(pivot_root),
	SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(open_tree), SCMP_SYS(move_mount), SCMP_SYS(fsopen), SCMP_SYS(mount_setattr),
	SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load),
	SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup),
	SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl),
	SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct), SCMP_SYS(quotactl),
	SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(adjtimex), SCMP_SYS(sethostname), SCMP_SYS(setdomainname),
	SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid), SCMP_SYS(setresuid), SCMP_SYS(setresgid),
	SCMP_SYS(setgroups), SCMP_SYS(capset), SCMP_SYS(personality), SCMP_SYS(mknod), SCMP_SYS(mknodat),
	SCMP_SYS(open_by_handle_at), SCMP_SYS(fanotify_init), SCMP_SYS(syslog), SCMP_SYS(vhangup), SCMP_SYS(iopl), SCMP_SYS(ioperm),
};

/* Sockets of the families that the resolver, libcurl and libpq want, and of no other. */
static bool
sockets_close(scmp_filter_ctx filter)
{
	static const int	 wanted[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };

	for (int family = 0; family < AF_MAX; family++) {
		bool	 is_wanted = false;

		for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
			is_wanted = is_wanted || wanted[i] == family;
		if (!is_wanted && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
		    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family, 0)) < 0)
			return false;
	}
	return true;
}

static bool
calls_close(void)
{
	scmp_filter_ctx	 filter = seccomp_init(SCMP_ACT_ALLOW);
	bool		 closed = filter != NULL && sockets_close(filter);

	for (size_t i = 0; closed && i < sizeof refused / sizeof *refused; i++) {
		/* Which of them there are differs between machines. */
		int	 rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);

		closed = rc == 0 || rc == -EDOM;
	}
	closed = closed && seccomp_load(filter) == 0;
	if (filter != NULL)
		seccomp_release(filter);
	return closed;
}
#else
static bool
calls_close(void)
{
	return false;
}
#endif

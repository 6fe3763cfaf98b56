/*
 * confine -- what a worker gives up for good once it has started: should somebody take it over, he has little to do it with.
 *
 * No new privileges (no set-uid program gives any).  No core file, and nobody but root looks into
 * its memory or /proc/PID, where keys are.  No program is started, and no file written, made, changed or
 * removed, but in the folder of the log (Landlock, Linux 5.13).  No tracing of other processes, no
 * name spaces, mounts, modules, keys or other doors into the kernel, no sockets but Unix and Internet (seccomp).
 *
 * It is for the start, before there are threads: those made later inherit it.  It never fails: what the kernel
 * or the build lacks is left out, and what holds is said, for the log.  Under the sanitizers,
 * which trace themselves, only files are closed off.
 */
#ifndef PARLEY_RUN_CONFINE_H
#define PARLEY_RUN_CONFINE_H

#define CONFINE_WORDS	64

/*
 * writable: the file that may be written and made anew beside itself, NULL: none.
 * held: what holds now, of the words privileges, memory, files, calls.
 */
void	 confine(const char *writable, char held[CONFINE_WORDS]);

/* For the other processes that hold keys: the part of it about memory.  It ends with execve(), so a child is as it was. */
void	 confine_memory(void);

#endif

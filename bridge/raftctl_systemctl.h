/*
 * Running systemctl and waiting for it, but not for ever. What this must not know: members, clusters.
 */
#ifndef RAFTCTL_SYSTEMCTL_H
#define RAFTCTL_SYSTEMCTL_H

#include <stddef.h>
#include <stdint.h>

/* Runs `systemctl ARGUMENT…` (arguments: what follows the name, ended by NULL) until deadline_us of ctl_now_us, and takes what it
 * prints on stdout: at most size - 1 bytes, as a string. CTL_OK; CTL_FAILED: it could not be run, or failed, and it or
 * this has said why; CTL_TIMEOUT: it did not end in time and was given up: what it asked systemd for goes on. */
int ctl_systemctl(const char *const *arguments, uint64_t deadline_us, char *ret_output, size_t size)
	__attribute__((warn_unused_result));

#endif

/*
 * The pre-scan: reads the whole file once, says which lines are not well formed, and keeps the rest with line numbers.
 *
 * iniparser cannot tell line numbers, forgets which key came twice, and misreads some lines in silence. So this
 * scan goes first, and iniparser is given only what scan_text writes: the accepted lines, in their plainest form.
 *
 * The grammar, line by line (README.md has it in words):
 *     blank | comment | [section] comment? | key = value comment? | key = "value" comment?
 *
 * What this must not know: which sections and keys exist, what values mean.
 */
#ifndef RAFT_KV_CONFIG_SCAN_H
#define RAFT_KV_CONFIG_SCAN_H

#include "daemon/config/mistake.h"

#include <stdbool.h>
#include <stddef.h>

#define CONFIG_LINE_MAX 1000u			  /* bytes; iniparser's buffer holds 1024 */
#define CONFIG_FILE_SIZE_MAX ((size_t)256 * 1024) /* a hundred times what 15 members need */

/* One accepted line: a section when key is NULL. Strings are owned by the scan. */
struct scan_item {
	unsigned line;
	const char *section; /* NULL for a key before any section */
	const char *key;
	const char *value; /* NULL: malformed, and reported as such */
	bool dropped;	   /* set by the owner: not for scan_text */
};

struct scan {
	struct scan_item *items; /* in the order of the file */
	size_t n_items;
	char *strings;
};

/* Reads mistakes->path. Malformed lines are reported and left out. Returns 0 and fills *ret_scan when the file could be read
 * at all, else -1, with the reason reported. */
int scan_file(struct config_mistakes *mistakes, struct scan *ret_scan) __attribute__((warn_unused_result));

/* The same for bytes in memory. */
int scan_bytes(struct config_mistakes *mistakes, const char *bytes, size_t len, struct scan *ret_scan)
	__attribute__((warn_unused_result));

/* What iniparser is to read: a line for every item that was not dropped. To be freed; NULL when memory is short. */
char *scan_text(const struct scan *scan, size_t *ret_len);

void scan_fini(struct scan *scan);

#endif

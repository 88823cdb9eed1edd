/*
 * Collects what is wrong with a configuration file: one line each, in the form
 * `file:line: [section] key: what is wrong, what is allowed`.
 *
 * What this must not know: which sections and keys exist.
 */
#ifndef RAFT_KV_CONFIG_MISTAKE_H
#define RAFT_KV_CONFIG_MISTAKE_H

/* Lines handed on; more are only counted. A file that is not a configuration at all must not flood the journal. */
#define CONFIG_MISTAKES_SHOWN_MAX 40

#define CONFIG_QUOTED_MAX 96u /* room for a shortened, printable copy of foreign text */

struct config_mistakes {
	const char *path;
	void (*report)(void *arg, const char *line);
	void *arg;
	int count;
};

/* line 0: the mistake is not in one line; section and key NULL: likewise. */
void config_mistake(struct config_mistakes *mistakes, unsigned line, const char *section, const char *key,
		    const char *format, ...) __attribute__((format(printf, 5, 6)));

/* A copy of text that can be put into a message whatever is in it. Returns ret. */
const char *config_quote(const char *text, char ret[CONFIG_QUOTED_MAX]);

#endif

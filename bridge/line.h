/*
 * The line protocol: words, quoting, and what a line asks for. Pure functions over bytes; README.md is the
 * specification. Shared by raft-bridge, raftctl and the tests.
 *
 * What this must not know: sockets, buffers' owners, the cluster.
 */
#ifndef RAFT_KV_LINE_H
#define RAFT_KV_LINE_H

#include "kv/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `cas KEY REVISION VALUE` has the most words that mean something; one more shows that there are too many. */
#define LINE_WORDS_MAX 5u

/* The longest request that can be right: the largest key and value with every byte written as \xHH. */
#define LINE_SIZE_MAX (4u * (KV_KEY_SIZE_MAX + KV_VALUE_SIZE_MAX) + 64u)

/* Bytes of a quoted word of so many bytes, at most. */
#define LINE_QUOTED_SIZE_MAX(size) (4u * (size_t)(size) + 2u)
#define LINE_U64_SIZE_MAX 20u

struct line_word {
	const uint8_t *data;
	size_t size;
};

struct line {
	unsigned n_words;
	struct line_word words[LINE_WORDS_MAX];
};

enum line_result {
	LINE_OK = 0,
	LINE_CONTROL = 1,      /* a control character outside quotes */
	LINE_QUOTE = 2,	       /* a quote inside an unquoted word */
	LINE_UNTERMINATED = 3, /* no closing quote */
	LINE_ESCAPE = 4,       /* an escape that is not known */
	LINE_AFTER_QUOTE = 5,  /* something other than a space follows a closing quote */
	LINE_WORDS = 6,	       /* more than LINE_WORDS_MAX words */
};
const char *line_result_text(int result); /* what is wrong and what to do */

/* Splits a line (without its LF; a CR at its end is dropped) into words. Quoted words are decoded in place: the
 * words point into text, which is changed even on failure. */
int line_split(uint8_t *text, size_t len, struct line *ret_line) __attribute__((warn_unused_result));

enum line_command {
	LINE_PUT,
	LINE_GET,
	LINE_DELETE,
	LINE_CAS,
	LINE_HELP,
	LINE_STATUS,
	LINE_PING,
	LINE_QUIT,
};

struct line_request {
	enum line_command command;
	bool stale; /* get -s */
	struct line_word key;
	struct line_word value;
	uint64_t expected; /* cas */
};

enum line_error {
	LINE_E_BAD_REQUEST,
	LINE_E_UNKNOWN_COMMAND,
	LINE_E_TOO_BIG,
	LINE_E_NO_QUORUM,
	LINE_E_UNKNOWN,
	LINE_E_BUSY,
	LINE_E_DISK_FULL,
	LINE_E_INTERNAL,
};
const char *line_error_name(enum line_error error);

struct line_problem {
	enum line_error error;
	const char *text; /* static */
};

enum line_request_result { LINE_REQUEST_OK = 0, LINE_REQUEST_EMPTY = 1, LINE_REQUEST_BAD = 2 };

/* What a line asks for. LINE_REQUEST_BAD fills only *ret_problem. Changes text like line_split. */
int line_parse(uint8_t *text, size_t len, struct line_request *ret_request, struct line_problem *ret_problem)
	__attribute__((warn_unused_result));

/* The text of `help`, ending with a line "OK". */
const char *line_help(void);

/* True when the word can be written without quotes. */
bool line_is_plain(const uint8_t *data, size_t size);
/* How long the word is when written, quotes and escapes included where they are needed. */
size_t line_written_size(const uint8_t *data, size_t size);
/* Writes the word as replies do and returns its length: line_written_size bytes. */
size_t line_write_word(uint8_t *buf, const uint8_t *data, size_t size);
/* Writes the number in decimal and returns its length, at most LINE_U64_SIZE_MAX. */
size_t line_write_u64(uint8_t *buf, uint64_t value);
/* True and *ret only if the word is one decimal number that fits. */
bool line_read_u64(const struct line_word *word, uint64_t *ret);

#endif

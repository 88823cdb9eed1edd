/* One line an event: TIME CLIENT call … or TIME CLIENT return …. */
#include "tests/linearizability/history_file.h"

#include "tests/linearizability/register.h"

#include <inttypes.h>
#include <search.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 8u

struct client {
	uint64_t number;
	uint64_t operation;
	enum lin_kind kind;
	bool open;
	bool stale; /* its open operation is a read that promises nothing */
};

struct reader {
	struct lin_checker *checker;
	void *clients;
	size_t line;
	uint64_t time;
	struct lin_bytes words[WORDS_MAX];
	size_t n_words;
	char *message;
};

static int malformed(struct reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int malformed(struct reader *reader, const char *format, ...)
{
	int length = snprintf(reader->message, LIN_MESSAGE_SIZE, "line %zu: ", reader->line);
	va_list arguments;
	va_start(arguments, format);
	(void)vsnprintf(reader->message + length, LIN_MESSAGE_SIZE - (size_t)length, format, arguments);
	va_end(arguments);
	return -1;
}

/* Words --------------------------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *found = c == '\0' ? NULL : strchr(digits, c);
	return found == NULL ? -1 : (int)(found - digits);
}

/* The escape after a backslash; returns the bytes it takes in the line, 0 when it is none. */
static size_t unescape(const char *text, size_t size, char *ret_byte)
{
	static const char names[] = "\"\\nrt";
	static const char bytes[] = "\"\\\n\r\t";
	if (size >= 3 && text[0] == 'x' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
		*ret_byte = (char)(hex_digit(text[1]) * 16 + hex_digit(text[2]));
		return 3;
	}
	const char *name = size == 0 || text[0] == '\0' ? NULL : strchr(names, text[0]);
	if (name == NULL)
		return 0;
	*ret_byte = bytes[name - names];
	return 1;
}

/* Decodes in place: what is decoded is never longer. Returns where the word ends in the line, or 0. */
static size_t quoted_word(char *line, size_t size, size_t begin, struct lin_bytes *ret_word)
{
	size_t in = begin + 1;
	size_t out = begin;
	while (in < size && line[in] != '"') {
		char byte = line[in++];
		if (byte == '\\') {
			size_t taken = unescape(line + in, size - in, &byte);
			if (taken == 0)
				return 0;
			in += taken;
		}
		line[out++] = byte;
	}
	*ret_word = (struct lin_bytes){.data = line + begin, .size = out - begin};
	return in < size ? in + 1 : 0;
}

static size_t plain_word(const char *line, size_t size, size_t begin, struct lin_bytes *ret_word)
{
	size_t end = begin;
	while (end < size && line[end] != ' ') {
		unsigned char c = (unsigned char)line[end];
		if (c < 0x20 || c == 0x7f || c == '"')
			return 0;
		end++;
	}
	*ret_word = (struct lin_bytes){.data = line + begin, .size = end - begin};
	return end;
}

static int split(struct reader *reader, char *line, size_t size)
{
	size_t at = 0;
	reader->n_words = 0;
	for (;;) {
		while (at < size && line[at] == ' ')
			at++;
		if (at == size)
			return 0;
		if (reader->n_words == WORDS_MAX)
			return malformed(reader, "more than %u words", WORDS_MAX);
		struct lin_bytes *word = &reader->words[reader->n_words++];
		at = line[at] == '"' ? quoted_word(line, size, at, word) : plain_word(line, size, at, word);
		if (at == 0 || (at < size && line[at] != ' '))
			return malformed(reader, "word %zu is malformed", reader->n_words);
	}
}

static bool word_is(const struct reader *reader, size_t k, const char *text)
{
	return k < reader->n_words && reader->words[k].size == strlen(text) &&
	       memcmp(reader->words[k].data, text, reader->words[k].size) == 0;
}

static bool word_number(const struct reader *reader, size_t k, uint64_t *ret_number)
{
	uint64_t number = 0;
	if (k >= reader->n_words || reader->words[k].size == 0)
		return false;
	for (size_t j = 0; j < reader->words[k].size; j++) {
		char c = ((const char *)reader->words[k].data)[j];
		if (c < '0' || c > '9' || __builtin_mul_overflow(number, 10u, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(c - '0'), &number))
			return false;
	}
	*ret_number = number;
	return true;
}

/* Events -------------------------------------------------------------------------------------------------------------- */

static int compare_clients(const void *a, const void *b)
{
	const struct client *x = a;
	const struct client *y = b;
	return x->number < y->number ? -1 : x->number > y->number;
}

static struct client *client_get(struct reader *reader, uint64_t number)
{
	struct client wanted = {.number = number};
	struct client **found = tfind(&wanted, &reader->clients, compare_clients);
	if (found != NULL)
		return *found;
	struct client *client = lin_alloc(1, sizeof *client);
	client->number = number;
	if (tsearch(client, &reader->clients, compare_clients) == NULL)
		abort();
	return client;
}

/* Words from 3 on: the operation and what belongs to it. */
static int parse_call(struct reader *reader, struct lin_call *call, bool *ret_stale)
{
	size_t n = reader->n_words;
	*ret_stale = word_is(reader, 3, "get-stale");
	bool shaped;
	if (word_is(reader, 3, "get") || *ret_stale) {
		call->kind = LIN_GET;
		shaped = n == 5;
	} else if (word_is(reader, 3, "put")) {
		call->kind = LIN_PUT;
		shaped = n == 6;
	} else if (word_is(reader, 3, "delete")) {
		call->kind = LIN_DELETE;
		shaped = n == 5;
	} else if (word_is(reader, 3, "cas")) {
		call->kind = LIN_CAS;
		call->expects_value = word_is(reader, 5, "value");
		shaped = n == 8 && (call->expects_value ||
				    (word_is(reader, 5, "revision") && word_number(reader, 6, &call->expected) &&
				     call->expected != LIN_REVISION_NONE));
		if (shaped && call->expects_value)
			call->wanted = reader->words[6];
	} else {
		return malformed(reader, "a call of get, get-stale, put, delete or cas is wanted");
	}
	if (!shaped || reader->words[4].size == 0)
		return malformed(reader, "the call has the wrong words");
	call->key = reader->words[4];
	if (call->kind == LIN_PUT || call->kind == LIN_CAS)
		call->value = reader->words[n - 1];
	return 0;
}

static int read_call(struct reader *reader, struct client *client, struct lin_call *call)
{
	if (client->open)
		return malformed(reader, "client %" PRIu64 " has an open operation", client->number);
	if (parse_call(reader, call, &client->stale) != 0)
		return -1;
	client->open = true;
	client->kind = call->kind;
	if (!client->stale)
		client->operation = lin_invoke(reader->checker, call);
	return 0;
}

/* Words from 3 on: the outcome, and the revision if it is told. */
static int parse_return(struct reader *reader, struct lin_return *outcome)
{
	static const struct {
		const char *name;
		enum lin_outcome outcome;
		size_t revision; /* the word that may be one; 0: none */
	} rows[] = {{"ok", LIN_OK, 4},
		    {"value", LIN_OK, 5},
		    {"not_found", LIN_NOT_FOUND, 0},
		    {"mismatch", LIN_MISMATCH, 4},
		    {"failed", LIN_FAILED, 0},
		    {"unknown", LIN_UNKNOWN, 0}};
	for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
		if (!word_is(reader, 3, rows[k].name))
			continue;
		size_t least = rows[k].revision == 0 ? 4 : rows[k].revision;
		outcome->outcome = rows[k].outcome;
		if (reader->n_words == least)
			return 0;
		if (rows[k].revision == 0 || reader->n_words != least + 1 ||
		    !word_number(reader, least, &outcome->revision) ||
		    (outcome->outcome == LIN_OK && outcome->revision == 0) || outcome->revision == LIN_REVISION_NONE)
			return malformed(reader, "the return has the wrong words");
		return 0;
	}
	return malformed(reader, "a return of ok, value, not_found, mismatch, failed or unknown is wanted");
}

static int read_return(struct reader *reader, struct client *client, struct lin_return *outcome)
{
	if (!client->open)
		return malformed(reader, "client %" PRIu64 " has no open operation", client->number);
	if (parse_return(reader, outcome) != 0)
		return -1;
	bool is_value = word_is(reader, 3, "value");
	if (!lin_outcome_fits(client->kind, outcome->outcome) ||
	    (outcome->outcome == LIN_OK && is_value != (client->kind == LIN_GET)))
		return malformed(reader, "the outcome does not fit the operation of client %" PRIu64, client->number);
	if (is_value)
		outcome->value = reader->words[4];
	client->open = false;
	if (!client->stale)
		lin_return(reader->checker, client->operation, outcome);
	return 0;
}

static int read_line(struct reader *reader, char *line, size_t size)
{
	if (split(reader, line, size) != 0)
		return -1;
	if (reader->n_words == 0)
		return 0;
	uint64_t time;
	uint64_t number;
	if (!word_number(reader, 0, &time) || !word_number(reader, 1, &number))
		return malformed(reader, "a time and a client are wanted, both numbers");
	if (time < reader->time)
		return malformed(reader, "the time goes back");
	reader->time = time;
	struct client *client = client_get(reader, number);
	struct lin_call call = {.time = time, .client = number};
	struct lin_return outcome = {.time = time, .revision = LIN_REVISION_NONE};
	if (word_is(reader, 2, "call"))
		return read_call(reader, client, &call);
	if (word_is(reader, 2, "return"))
		return read_return(reader, client, &outcome);
	return malformed(reader, "the third word is neither call nor return");
}

int lin_read(FILE *file, struct lin_checker *checker, char message[LIN_MESSAGE_SIZE])
{
	struct reader reader = {.checker = checker, .message = message};
	char *line = NULL;
	size_t capacity = 0;
	ssize_t length;
	int result = 0;
	while (result == 0 && (length = getline(&line, &capacity, file)) >= 0) {
		size_t size = (size_t)length;
		reader.line++;
		while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
			size--;
		if (size > 0 && line[0] != '#')
			result = read_line(&reader, line, size);
	}
	if (result == 0 && ferror(file)) {
		(void)snprintf(message, LIN_MESSAGE_SIZE, "cannot be read: %m");
		result = -1;
	}
	free(line);
	tdestroy(reader.clients, free);
	return result;
}

/* Writing ------------------------------------------------------------------------------------------------------------- */

static void write_word(struct lin_bytes word, FILE *file)
{
	const unsigned char *data = word.data;
	fputs(" \"", file);
	for (size_t k = 0; k < word.size; k++) {
		if (data[k] == '"' || data[k] == '\\')
			fprintf(file, "\\%c", data[k]);
		else if (data[k] < 0x20 || data[k] == 0x7f)
			fprintf(file, "\\x%02x", data[k]);
		else
			fputc(data[k], file);
	}
	fputc('"', file);
}

void lin_write_call(const struct lin_call *call, FILE *file)
{
	static const char *const names[] = {"get", "put", "delete", "cas"};
	fprintf(file, "%" PRIu64 " %" PRIu64 " call %s", call->time, call->client, names[call->kind]);
	write_word(call->key, file);
	if (call->kind == LIN_CAS && call->expects_value) {
		fputs(" value", file);
		write_word(call->wanted, file);
	} else if (call->kind == LIN_CAS) {
		fprintf(file, " revision %" PRIu64, call->expected);
	}
	if (call->kind == LIN_PUT || call->kind == LIN_CAS)
		write_word(call->value, file);
	fputc('\n', file);
}

void lin_write_return(uint64_t client, const struct lin_return *outcome, enum lin_kind kind, FILE *file)
{
	static const char *const names[] = {"ok", "not_found", "mismatch", "failed", "unknown"};
	bool is_value = kind == LIN_GET && outcome->outcome == LIN_OK;
	fprintf(file, "%" PRIu64 " %" PRIu64 " return %s", outcome->time, client,
		is_value ? "value" : names[outcome->outcome]);
	if (is_value)
		write_word(outcome->value, file);
	bool tells = outcome->outcome == LIN_OK || outcome->outcome == LIN_MISMATCH;
	if (tells && outcome->revision != LIN_REVISION_NONE)
		fprintf(file, " %" PRIu64, outcome->revision);
	fputc('\n', file);
}

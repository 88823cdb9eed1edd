/* See line.h: splitting a line into words and what they ask for. Writing words is in line_write.c. */
#include "bridge/line.h"

#include "daemon/assert.h"

#include <string.h>

#define KEY_LIMIT_TEXT "1024"
#define VALUE_LIMIT_TEXT "1048576"
_Static_assert(KV_KEY_SIZE_MAX == 1024 && KV_VALUE_SIZE_MAX == 1048576, "the texts below name the limits");

/* Words ------------------------------------------------------------------------------------------------ */

const char *line_result_text(int result)
{
	switch ((enum line_result)result) {
	case LINE_OK:
		return "fine";
	case LINE_CONTROL:
		return "a control character stands outside quotes; write the word in double quotes, a tab as \\t, "
		       "others as "
		       "\\xHH";
	case LINE_QUOTE:
		return "a double quote stands inside an unquoted word; write the whole word in double quotes and the "
		       "quote as "
		       "\\\"";
	case LINE_UNTERMINATED:
		return "a quoted word has no closing quote; a newline in a word is written \\n";
	case LINE_ESCAPE:
		return "an escape in quotes is not known; use \\\" \\\\ \\n \\r \\t or \\xHH";
	case LINE_AFTER_QUOTE:
		return "a closing quote is not followed by a space; a quote in a word is written \\\"";
	case LINE_WORDS:
		return "too many words; write a word that holds spaces in double quotes, see 'help'";
	}
	return "not a result";
}

/* True when one of the eight bytes at p ends or spoils an unquoted word: a byte up to the space, a quote or DEL.
 * May say true for a word that is fine, never false for one that is not; the caller looks closer. */
static inline bool eight_need_a_look(const uint8_t *p)
{
	const uint64_t ones = UINT64_MAX / 255;
	uint64_t x;
	memcpy(&x, p, sizeof x);
	uint64_t quote = x ^ (ones * '"');
	uint64_t del = x ^ (ones * 0x7f);
	uint64_t hit = ((x - ones * 0x21) & ~x) | ((quote - ones) & ~quote) | ((del - ones) & ~del);
	return (hit & (ones * 0x80)) != 0;
}

static int split_plain(const uint8_t *text, size_t len, size_t *at, struct line_word *ret_word)
{
	size_t end = *at;
	raft_assert(end < len);
	for (;;) {
		while (len - end >= 8 && !eight_need_a_look(text + end))
			end += 8;
		if (end == len || text[end] == ' ')
			break;
		if (text[end] < ' ' || text[end] == 0x7f)
			return LINE_CONTROL;
		if (text[end] == '"')
			return LINE_QUOTE;
		end++;
	}
	*ret_word = (struct line_word){text + *at, end - *at};
	*at = end;
	return LINE_OK;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes the escape whose backslash is at text[at]. Returns its length, 0 if it is not known. */
static size_t decode_escape(const uint8_t *text, size_t len, size_t at, uint8_t *ret_byte)
{
	raft_assert(at < len && text[at] == '\\');
	if (len - at < 2)
		return 0;
	switch (text[at + 1]) {
	case '"':
	case '\\':
		*ret_byte = text[at + 1];
		return 2;
	case 'n':
		*ret_byte = '\n';
		return 2;
	case 'r':
		*ret_byte = '\r';
		return 2;
	case 't':
		*ret_byte = '\t';
		return 2;
	case 'x':
		break;
	default:
		return 0;
	}
	if (len - at < 4 || hex_digit(text[at + 2]) < 0 || hex_digit(text[at + 3]) < 0)
		return 0;
	*ret_byte = (uint8_t)(hex_digit(text[at + 2]) * 16 + hex_digit(text[at + 3]));
	return 4;
}

/* True when none of the eight bytes at p ends a quoted word or starts an escape. */
static inline bool eight_are_literal(const uint8_t *p)
{
	const uint64_t ones = UINT64_MAX / 255;
	uint64_t x;
	memcpy(&x, p, sizeof x);
	uint64_t quote = x ^ (ones * '"');
	uint64_t backslash = x ^ (ones * '\\');
	uint64_t hit = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash);
	return (hit & (ones * 0x80)) == 0;
}

static int split_quoted(uint8_t *text, size_t len, size_t *at, struct line_word *ret_word)
{
	size_t from = *at + 1;
	size_t to = from;
	raft_assert(*at < len && text[*at] == '"');
	while (from < len && text[from] != '"') {
		if (text[from] != '\\') {
			size_t run = 1;
			while (len - from - run >= 8 && eight_are_literal(text + from + run))
				run += 8;
			if (to != from)
				memmove(text + to, text + from, run);
			to += run;
			from += run;
			continue;
		}
		uint8_t byte;
		size_t size = decode_escape(text, len, from, &byte);
		if (size == 0)
			return from + 1 == len ? LINE_UNTERMINATED : LINE_ESCAPE;
		text[to++] = byte;
		from += size;
	}
	if (from == len)
		return LINE_UNTERMINATED;
	if (from + 1 < len && text[from + 1] != ' ')
		return LINE_AFTER_QUOTE;
	*ret_word = (struct line_word){text + *at + 1, to - *at - 1};
	*at = from + 1;
	return LINE_OK;
}

int line_split(uint8_t *text, size_t len, struct line *ret_line)
{
	struct line line = {0};
	size_t at = 0;
	if (len > 0 && text[len - 1] == '\r')
		len--;
	for (;;) {
		while (at < len && text[at] == ' ')
			at++;
		if (at == len)
			break;
		if (line.n_words == LINE_WORDS_MAX)
			return LINE_WORDS;
		struct line_word *word = &line.words[line.n_words];
		int r = text[at] == '"' ? split_quoted(text, len, &at, word) : split_plain(text, len, &at, word);
		if (r != LINE_OK)
			return r;
		line.n_words++;
		raft_assert(at <= len);
	}
	*ret_line = line;
	return LINE_OK;
}

bool line_read_u64(const struct line_word *word, uint64_t *ret)
{
	uint64_t value = 0;
	if (word->size == 0 || word->size > LINE_U64_SIZE_MAX)
		return false;
	for (size_t k = 0; k < word->size; k++) {
		if (word->data[k] < '0' || word->data[k] > '9')
			return false;
		uint64_t digit = word->data[k] - (uint64_t)'0';
		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return true;
}

/* Requests --------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	unsigned n_words_min;
	unsigned n_words_max;
	const char *usage;
} commands[] = {
	[LINE_PUT] = {"put", 3, 3, "write: put KEY VALUE (a word with spaces in double quotes)"},
	[LINE_GET] = {"get", 2, 3, "write: get KEY, or get -s KEY for a read that may be stale"},
	[LINE_DELETE] = {"delete", 2, 2, "write: delete KEY"},
	[LINE_CAS] = {"cas", 4, 4, "write: cas KEY REVISION VALUE (revision 0: the key must not exist)"},
	[LINE_HELP] = {"help", 1, 1, "write: help"},
	[LINE_STATUS] = {"status", 1, 1, "write: status"},
	[LINE_PING] = {"ping", 1, 1, "write: ping"},
	[LINE_QUIT] = {"quit", 1, 1, "write: quit"},
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

const char *line_help(void)
{
	return "# put KEY VALUE           -> OK REVISION\n"
	       "# get KEY                 -> VALUE REVISION VALUE | NOT_FOUND\n"
	       "# get -s KEY              the same, may be stale, works without a quorum\n"
	       "# delete KEY              -> OK REVISION | NOT_FOUND\n"
	       "# cas KEY REVISION VALUE  -> OK REVISION | MISMATCH REVISION; revision 0: the key must not exist\n"
	       "# status                  one line a member, then OK\n"
	       "# help                    these lines\n"
	       "# ping                    -> PONG\n"
	       "# quit                    -> BYE\n"
	       "# words with spaces: \"in double quotes\", with \\\" \\\\ \\n \\r \\t \\xHH; errors: ERR code text\n"
	       "OK\n";
}

const char *line_error_name(enum line_error error)
{
	switch (error) {
	case LINE_E_BAD_REQUEST:
		return "bad_request";
	case LINE_E_UNKNOWN_COMMAND:
		return "unknown_command";
	case LINE_E_TOO_BIG:
		return "too_big";
	case LINE_E_NO_QUORUM:
		return "no_quorum";
	case LINE_E_UNKNOWN:
		return "unknown";
	case LINE_E_BUSY:
		return "busy";
	case LINE_E_DISK_FULL:
		return "disk_full";
	case LINE_E_INTERNAL:
		return "internal";
	}
	return "internal";
}

static bool word_is(const struct line_word *word, const char *text)
{
	size_t size = strlen(text);
	return word->size == size && memcmp(word->data, text, size) == 0;
}

static int refuse(enum line_error error, const char *text, struct line_problem *ret_problem)
{
	*ret_problem = (struct line_problem){error, text};
	return LINE_REQUEST_BAD;
}

static int check_key(const struct line_word *key, struct line_problem *ret_problem)
{
	if (key->size == 0)
		return refuse(LINE_E_BAD_REQUEST, "the key is empty; a key has 1 to " KEY_LIMIT_TEXT " bytes",
			      ret_problem);
	if (key->size > KV_KEY_SIZE_MAX)
		return refuse(LINE_E_TOO_BIG, "the key is longer than " KEY_LIMIT_TEXT " bytes; shorten it",
			      ret_problem);
	return LINE_REQUEST_OK;
}

static int check_value(const struct line_word *value, struct line_problem *ret_problem)
{
	if (value->size > KV_VALUE_SIZE_MAX)
		return refuse(LINE_E_TOO_BIG,
			      "the value is longer than " VALUE_LIMIT_TEXT " bytes; split it over several keys",
			      ret_problem);
	return LINE_REQUEST_OK;
}

static int parse_get(const struct line *line, struct line_request *request, struct line_problem *ret_problem)
{
	request->key = line->words[line->n_words - 1];
	request->stale = line->n_words == 3;
	if (request->stale && !word_is(&line->words[1], "-s"))
		return refuse(LINE_E_BAD_REQUEST, commands[LINE_GET].usage, ret_problem);
	return check_key(&request->key, ret_problem);
}

static int parse_write(const struct line *line, struct line_request *request, struct line_problem *ret_problem)
{
	request->key = line->words[1];
	if (request->command == LINE_CAS && !line_read_u64(&line->words[2], &request->expected))
		return refuse(
			LINE_E_BAD_REQUEST,
			"the revision is not a number from 0 to 2^64-1; it is the number that get and put answer with",
			ret_problem);
	if (request->command != LINE_DELETE)
		request->value = line->words[line->n_words - 1];
	int r = check_key(&request->key, ret_problem);
	return r != LINE_REQUEST_OK ? r : check_value(&request->value, ret_problem);
}

static int parse_arguments(const struct line *line, enum line_command command, struct line_request *ret_request,
			   struct line_problem *ret_problem)
{
	struct line_request request = {.command = command};
	int r = LINE_REQUEST_OK;
	if (line->n_words < commands[command].n_words_min || line->n_words > commands[command].n_words_max)
		return refuse(LINE_E_BAD_REQUEST, commands[command].usage, ret_problem);
	switch (command) {
	case LINE_GET:
		r = parse_get(line, &request, ret_problem);
		break;
	case LINE_PUT:
	case LINE_DELETE:
	case LINE_CAS:
		r = parse_write(line, &request, ret_problem);
		break;
	case LINE_HELP:
	case LINE_STATUS:
	case LINE_PING:
	case LINE_QUIT:
		break;
	}
	if (r == LINE_REQUEST_OK)
		*ret_request = request;
	return r;
}

int line_parse(uint8_t *text, size_t len, struct line_request *ret_request, struct line_problem *ret_problem)
{
	struct line line;
	int r = line_split(text, len, &line);
	if (r != LINE_OK)
		return refuse(LINE_E_BAD_REQUEST, line_result_text(r), ret_problem);
	if (line.n_words == 0)
		return LINE_REQUEST_EMPTY;
	for (size_t k = 0; k < N_COMMANDS; k++)
		if (word_is(&line.words[0], commands[k].name))
			return parse_arguments(&line, (enum line_command)k, ret_request, ret_problem);
	return refuse(LINE_E_UNKNOWN_COMMAND, "the first word is not a command (all are in lower case); try 'help'",
		      ret_problem);
}

/*
 * See mistake.h.
 */
#include "daemon/config/mistake.h"

#include "daemon/assert.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#define MISTAKE_LINE_MAX 2048

void config_mistake(struct config_mistakes *mistakes, unsigned line, const char *section, const char *key,
		    const char *format, ...)
{
	char text[MISTAKE_LINE_MAX], number[16] = "";

	raft_assert(mistakes != NULL && mistakes->report != NULL);
	raft_assert(mistakes->count >= 0 && mistakes->count < 0x7fffffff);
	mistakes->count++;
	if (mistakes->count > CONFIG_MISTAKES_SHOWN_MAX + 1)
		return;
	if (mistakes->count == CONFIG_MISTAKES_SHOWN_MAX + 1) {
		(void)snprintf(text, sizeof(text), "%.1000s: there are more mistakes; correct these first",
			       mistakes->path);
		mistakes->report(mistakes->arg, text);
		return;
	}
	if (line > 0)
		(void)snprintf(number, sizeof(number), "%u:", line);
	int len = snprintf(text, sizeof(text), "%.1000s:%s%s%.100s%s%s%.100s%s ", mistakes->path, number,
			   section != NULL ? " [" : "", section != NULL ? section : "", section != NULL ? "]" : "",
			   key != NULL ? " " : "", key != NULL ? key : "", section != NULL || key != NULL ? ":" : "");
	raft_assert(len > 0 && (size_t)len < sizeof(text));
	va_list args;
	va_start(args, format);
	(void)vsnprintf(text + len, sizeof(text) - (size_t)len, format, args); /* cut when it is too long */
	va_end(args);
	mistakes->report(mistakes->arg, text);
}

const char *config_quote(const char *text, char ret[CONFIG_QUOTED_MAX])
{
	const char ellipsis[] = "...";
	size_t len = 0;

	raft_assert(text != NULL && ret != NULL);
	while (text[len] != '\0' && len + sizeof(ellipsis) < CONFIG_QUOTED_MAX) {
		unsigned char c = (unsigned char)text[len];
		/* Bytes from 0x80 on are left alone: names and paths may be UTF-8, and one cut in half does no harm. */
		ret[len++] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
	}
	if (text[len] != '\0') {
		for (size_t i = 0; ellipsis[i] != '\0'; i++)
			ret[len++] = ellipsis[i];
	}
	raft_assert(len < CONFIG_QUOTED_MAX);
	ret[len] = '\0';
	return ret;
}

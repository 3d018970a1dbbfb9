/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <stdio.h>

void print_json_text(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

int print_error(const char *version, int code, const char *message, const char *details)
{
	printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":", version, code);
	print_json_text(message);
	printf(",\"details\":");
	print_json_text(details);
	printf("}\n");
	return 1;
}

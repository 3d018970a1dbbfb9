import { once } from 'node:events';
import { Option } from 'commander';
import { stringify } from 'yaml';

export type Format = 'table' | 'json' | 'yaml';

/** `-o`, as all commands that list have it. */
export const outputOption = (): Option =>
  new Option('-o, --output <format>', 'how to print it').choices(['table', 'json', 'yaml']).default('table');

/** Prints data as asked for; `table` makes the text for people. */
export async function print(format: Format, data: unknown, table: () => string): Promise<void> {
  switch (format) {
    case 'json':
      return write(`${JSON.stringify(data, null, 2)}\n`);
    case 'yaml':
      return write(stringify(data, { aliasDuplicateObjects: false }));
    case 'table':
      return write(table());
  }
}

/** To standard output, waiting where the reader is slow. */
export async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

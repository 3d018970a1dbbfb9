import { join } from 'node:path';
import { packageRoot } from '../package-root.ts';

/** The command line of this same program: from a clone by its source, from a package by its bundle. */
export function ownCommand(...args: readonly string[]): [string, ...string[]] {
  const self = import.meta.filename;
  return [process.execPath, self.endsWith('.ts') ? join(packageRoot, 'src/cli/main.ts') : self, ...args];
}

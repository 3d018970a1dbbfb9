import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * The folder of this package, from a source file in a clone as well as from a bundle in dist/: the files that are
 * not code (Go modules, charts, the BPF sources) are found from here.
 */
export const packageRoot: string = findUp(import.meta.dirname);

function findUp(folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, 'package.json'))) return at;
    if (at === dirname(at)) throw new Error(`no package.json in or above ${folder}`);
  }
}

import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where what is costly to make is kept between runs; `ISTHMUS_CACHE` moves it. Safe to delete at any time. */
export function cacheFolder(...below: string[]): string {
  return join(process.env.ISTHMUS_CACHE ?? join(homedir(), '.cache', 'isthmus'), ...below);
}

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../cache.ts';
import { ensureLabImages } from './images.ts';
import type { Report } from './timeline.ts';

/** The image archives that every node of a lab starts with: the lab's own, and Isthmus if it has been built. */
export async function imageArchives(report: Report, signal?: AbortSignal): Promise<string[]> {
  const { path } = await ensureLabImages({ report, ...(signal && { signal }) });
  const own = newestIsthmusArchive();
  return own === undefined ? [path] : [path, own];
}

function newestIsthmusArchive(): string | undefined {
  const folder = cacheFolder('images');
  if (!existsSync(folder)) return undefined;
  return readdirSync(folder)
    .filter(name => /^isthmus-.*\.tar$/.test(name))
    .map(name => join(folder, name))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
}

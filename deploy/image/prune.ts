import { readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';

const keptArchives = 3;
const keptLayersForMs = 14 * 24 * 3600 * 1000;

/**
 * Keeps the cache from growing with every change of the code: the newest archives of a label stay (an older one may
 * still be being imported), and layers that nobody made or used for two weeks go.
 */
export async function pruneArchives(folder: string, label: string): Promise<void> {
  const archives = await byAge(folder, name => name.startsWith(`${label}-`) && name.endsWith('.tar'));
  for (const { path } of archives.slice(keptArchives)) await rm(path, { force: true });
  const oldest = Date.now() - keptLayersForMs;
  for (const { path, time } of await byAge(join(folder, 'blobs'), () => true)) {
    if (time < oldest) await rm(path, { force: true });
  }
}

/** Marks a cached file as used now. */
export async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now);
}

async function byAge(
  folder: string,
  wanted: (name: string) => boolean,
): Promise<{ path: string; time: number }[]> {
  const found: { path: string; time: number }[] = [];
  for (const name of (await readdir(folder)).filter(wanted)) {
    const path = join(folder, name);
    // Another process may prune at the same time.
    const status = await stat(path).catch(() => undefined);
    if (status?.isFile()) found.push({ path, time: status.mtimeMs });
  }
  return found.sort((a, b) => b.time - a.time);
}

import { readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';

const inUseForMs = 3600 * 1000;
const keptLayersForMs = 14 * 24 * 3600 * 1000;

/**
 * Keeps a cache of things named `<label>-<hash>` from growing with every change of the code: the newest stay, a few
 * because an older one may be asked for again after a `git checkout`, and what was made or used within the hour,
 * because another process may be about to open it.
 */
export async function pruneOldest(folder: string, label: string, kept: number): Promise<void> {
  const hashed = new RegExp(`^${label.replaceAll('.', '\\.')}-[0-9a-f]{16}(\\.tar)?$`);
  const all = await byAge(folder, name => hashed.test(name));
  const unused = all.slice(kept).filter(({ time }) => time < Date.now() - inUseForMs);
  for (const { path } of unused) await rm(path, { recursive: true, force: true });
}

/** Layers that nobody made or used for two weeks. */
export async function pruneLayers(folder: string): Promise<void> {
  const oldest = Date.now() - keptLayersForMs;
  for (const { path, time } of await byAge(folder, () => true)) {
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
    if (status) found.push({ path, time: status.mtimeMs });
  }
  return found.sort((a, b) => b.time - a.time);
}

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Archive, writeArchive } from '../../deploy/image/archive.ts';
import { cacheFolder } from '../cache.ts';
import { ensureBinaries, type Report } from './binaries.ts';
import { labImages, source } from './image-contents.ts';

/**
 * The images that every node of a lab has, made on this machine: the same programs under the same names as the
 * published ones. They are one archive, because they share layers.
 */
export async function ensureLabImages(options: {
  readonly report: Report;
  readonly signal?: AbortSignal;
}): Promise<Archive> {
  const binaries = await ensureBinaries(['agnhost', 'coredns'], options);
  const folder = cacheFolder('images');
  const note = join(folder, `lab-${await inputsKey(Object.values(binaries))}.json`);
  const known = await readFile(note, 'utf8').catch(() => undefined);
  if (known !== undefined) {
    const archive = JSON.parse(known) as Archive;
    if (existsSync(archive.path)) return { ...archive, written: false };
  }
  options.report('making the images of the lab: pause, busybox, nginx, agnhost, coredns');
  const archive = await writeArchive(await labImages(binaries), { folder, label: 'lab' });
  await writeFile(`${note}.${process.pid}`, JSON.stringify(archive));
  await rename(`${note}.${process.pid}`, note);
  return archive;
}

/** Changes with the programs, with Debian's packages on this machine, and with what the images are said to be. */
async function inputsKey(binaries: readonly string[]): Promise<string> {
  const packages = await stat('/var/lib/dpkg/status').catch(() => undefined);
  const hash = createHash('sha256').update(
    `${binaries.join('\n')}\n${packages?.size} ${packages?.mtimeMs}\n`,
  );
  for (const file of new Set([import.meta.filename, source])) hash.update(await readFile(file));
  return hash.digest('hex').slice(0, 16);
}

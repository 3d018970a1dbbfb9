/** Notes the plugin leaves when a pod goes while no agent runs (cni/isthmus-cni.c, leave_note). */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { attachmentKey } from './endpoint.ts';

/**
 * Reads every note and removes it once `release` has been called for its attachment.
 * @param folder e.g. /run/isthmus/cni-release
 */
export function takeReleases(folder: string, release: (key: string) => void): number {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  let taken = 0;
  for (const note of readdirSync(folder)) {
    const at = note.lastIndexOf('@');
    if (at > 0) {
      release(attachmentKey(note.slice(0, at), note.slice(at + 1)));
      taken++;
    }
    rmSync(join(folder, note), { force: true });
  }
  return taken;
}

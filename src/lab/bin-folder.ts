import { copyFileSync, linkSync, mkdirSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';

/**
 * Gathers executables in one folder, which nodes see as /usr/local/bin: hard links where the file system
 * allows, copies elsewhere.
 */
export function gatherExecutables(folder: string, files: readonly string[]): void {
  mkdirSync(folder, { recursive: true });
  for (const file of files) {
    const target = join(folder, basename(file));
    try {
      linkSync(realpathSync(file), target);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
      if (error.code === 'EEXIST') continue;
      if (error.code !== 'EXDEV' && error.code !== 'EPERM') throw error;
      copyFileSync(file, target);
    }
  }
}

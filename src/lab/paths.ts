import { join } from 'node:path';
import { cacheFolder } from '../cache.ts';

/** Folder of all labs of this machine: what they are and how to undo them. Lost at a reboot, as they are. */
export const stateRoot = '/run/isthmus-lab';

/** The state of one lab. */
export function stateDirectory(lab: string): string {
  return join(stateRoot, lab);
}

/**
 * The disks of one lab's nodes. They stand beside the golden image store, because a disk is made of hard
 * links to it, and outside /run, because overlayfs wants a real file system above it.
 */
export function diskDirectory(lab: string): string {
  return cacheFolder('labs', lab);
}

import { Failure } from '../failure.ts';

/** Throws Failure where this process is not root's. */
export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new Failure('isthmus lab needs root: it makes namespaces, mounts and network devices', {
    hint: 'run it with sudo',
  });
}

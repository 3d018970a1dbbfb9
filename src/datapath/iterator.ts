import { readSync } from 'node:fs';
import * as libbpf from './libbpf.ts';
import { close } from './libc.ts';

/** Walks a map by an iterator program: all that the program wrote. */
export function readIterator(program: number, map: number): Buffer {
  const link = libbpf.check(libbpf.iteratorLink(program, map), 'iterator over a map');
  try {
    const file = libbpf.check(libbpf.iteratorCreate(link), 'walk of an iterator');
    try {
      const parts: Buffer[] = [];
      for (;;) {
        const part = Buffer.alloc(64 * 1024);
        const length = readSync(file, part);
        if (length === 0) return Buffer.concat(parts);
        parts.push(part.subarray(0, length));
      }
    } finally {
      close(file);
    }
  } finally {
    close(link);
  }
}

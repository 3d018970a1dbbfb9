import { readSync } from 'node:fs';
import * as libbpf from './libbpf.ts';
import { close } from './libc.ts';

/** What is read at once. Most walks find nothing. */
const room = Buffer.alloc(64 * 1024);

/** Walks a map by an iterator program: all that the program wrote. */
export function readIterator(program: number, map: number): Buffer {
  const link = libbpf.check(libbpf.iteratorLink(program, map), 'iterator over a map');
  try {
    const file = libbpf.check(libbpf.iteratorCreate(link), 'walk of an iterator');
    try {
      const parts: Buffer[] = [];
      for (let length = readSync(file, room); length > 0; length = readSync(file, room))
        parts.push(Buffer.from(room.subarray(0, length)));
      return Buffer.concat(parts);
    } finally {
      close(file);
    }
  } finally {
    close(link);
  }
}

/**
 * The few libc calls that Node lacks, bound once. All but `sendLater` are synchronous: a call returns before
 * anything else of the process's JavaScript runs, so a request and its answer cannot be interleaved.
 */
import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

export const socket: (domain: number, type: number, protocol: number) => number = libc.func(
  'int socket(int domain, int type, int protocol)',
);
export const bind: (fd: number, address: Uint8Array, length: number) => number = libc.func(
  'int bind(int fd, const void *address, unsigned int length)',
);
const sendFunction = libc.func('intptr_t send(int fd, const void *data, size_t length, int flags)');
export const send: (fd: number, data: Uint8Array, length: number, flags: number) => number = sendFunction;
/** `send` on a thread of libuv's pool. The errno of a failure is not known. */
export const sendLater = (fd: number, data: Uint8Array, length: number, flags: number): Promise<number> =>
  new Promise((resolve, reject) =>
    sendFunction.async(fd, data, length, flags, (error: unknown, result: number) =>
      error ? reject(error) : resolve(result),
    ),
  );
export const sendto: (
  fd: number,
  data: Uint8Array,
  length: number,
  flags: number,
  address: Uint8Array,
  addressLength: number,
) => number = libc.func(
  'intptr_t sendto(int fd, const void *data, size_t length, int flags, const void *address, unsigned int addressLength)',
);
export const recv: (fd: number, data: Uint8Array, length: number, flags: number) => number = libc.func(
  'intptr_t recv(int fd, void *data, size_t length, int flags)',
);
export const setsockopt: (
  fd: number,
  level: number,
  name: number,
  value: Uint8Array,
  length: number,
) => number = libc.func(
  'int setsockopt(int fd, int level, int name, const void *value, unsigned int length)',
);
export const close: (fd: number) => number = libc.func('int close(int fd)');

/** errno of the last failed call of this module. */
export const errno = (): number => koffi.errno();

const names = new Map([...getSystemErrorMap()].map(([number, [name]]) => [-number, name]));

/** 'EEXIST' for 17; a number the platform does not name is given as such. */
export const errnoName = (number: number): string => names.get(number) ?? `errno ${number}`;

/** A system call that failed: `code` is the errno's name as in Node's own errors. */
export class SystemCallError extends Error {
  readonly code: string;
  readonly errno: number;

  constructor(what: string, number: number, detail = '') {
    const name = errnoName(number);
    const text = getSystemErrorMap().get(-number)?.[1] ?? '';
    super(`${what}: ${name}${text ? ` (${text})` : ''}${detail ? `: ${detail}` : ''}`);
    this.name = 'SystemCallError';
    this.code = name;
    this.errno = number;
  }
}

/** Kernel parameters under /proc/sys, of the network namespace the process is in. */
import { readFileSync, writeFileSync } from 'node:fs';

/** Path parts are separated by '/', so that a device's name may hold a dot: 'net/ipv4/conf/eth0.5/rp_filter'. */
export const readSysctl = (name: string, root = '/proc/sys'): string =>
  readFileSync(`${root}/${name}`, 'utf8').trimEnd();

/**
 * Sets a parameter if it differs; true when it was changed. A parameter that holds the value already is not
 * written, so that a read-only /proc/sys is no error when there is nothing to do.
 */
export function writeSysctl(name: string, value: string | number, root = '/proc/sys'): boolean {
  const wanted = String(value);
  try {
    if (readSysctl(name, root) === wanted) return false;
    writeFileSync(`${root}/${name}`, wanted);
    return true;
  } catch (error) {
    throw new Error(`sysctl ${name}=${wanted}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

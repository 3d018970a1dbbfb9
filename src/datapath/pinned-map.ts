/**
 * Pinned maps by what the kernel knows of them, whatever version pinned them: for tools that look, and for an agent
 * that takes over what another version left.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { type Btf, parseBtf } from './btf.ts';
import { enumValues, type Layout, layoutOf } from './layout.ts';
import * as libbpf from './libbpf.ts';
import { close } from './libc.ts';
import { listPins } from './link-pins.ts';
import { BpfMap } from './map.ts';

/** Map types whose rows can be walked here; of others only the number of rows they have room for is known. */
const WALKABLE: ReadonlySet<number> = new Set([1, 2, 5, 6, 9, 10, 11]);

export interface PinnedMap<K, V> extends Disposable {
  readonly rows: BpfMap<K, V>;
  /** False for maps that have no rows of their own: storage of sockets, maps of maps. */
  readonly walkable: boolean;
  /** False where the kernel was given no types: keys and values are plain bytes then. */
  readonly typed: boolean;
  /** Names of an enum of the object that made the map, by number. */
  names(enumName: string): ReadonlyMap<number, string>;
}

/** Names of the maps pinned below a datapath's folder of the bpffs, without their layouts' hashes. */
export function pinnedMapNames(bpffs: string): string[] {
  return [...new Set(listPins(join(bpffs, 'maps')).map(nameOfPin))].sort();
}

/**
 * Opens a pinned map without loading programs. While an upgrade has two of a name, the newer one. Undefined
 * where there is none. Throws SystemCallError where the kernel refuses.
 */
export function openPinnedMap<K, V>(bpffs: string, name: string): PinnedMap<K, V> | undefined {
  const folder = join(bpffs, 'maps');
  const [pin] = listPins(folder)
    .filter(each => nameOfPin(each) === name)
    .sort((a, b) => statSync(join(folder, b)).mtimeMs - statSync(join(folder, a)).mtimeMs);
  return pin === undefined ? undefined : openPin(folder, pin);
}

/** Opens the map with this pin. Throws SystemCallError where the kernel refuses. */
export function openPin<K, V>(folder: string, pin: string): PinnedMap<K, V> {
  const fd = libbpf.check(libbpf.openPin(join(folder, pin)), `open map ${pin}`);
  try {
    // struct bpf_map_info of linux/bpf.h.
    const info = new Uint8Array(88);
    libbpf.check(libbpf.infoByFd(fd, info, new Uint32Array([info.length])), `look at map ${pin}`);
    const view = new DataView(info.buffer);
    const u32 = (offset: number): number => view.getUint32(offset, true);
    // Libbpf gives the kernel no types for maps of maps.
    const btf = u32(64) ? kernelBtf(u32(64), pin) : undefined;
    const layout = (type: number, size: number): Layout =>
      btf ? layoutOf(btf, u32(type)) : { kind: 'bytes', size: u32(size) };
    const spec = {
      name: nameOfPin(pin),
      type: u32(0),
      maxEntries: u32(16),
      flags: u32(20),
      key: layout(68, 8),
      value: layout(72, 12),
      pin,
    };
    return {
      rows: new BpfMap<K, V>(spec, fd),
      walkable: WALKABLE.has(spec.type),
      typed: btf !== undefined,
      names: of => new Map(btf ? [...enumValues(btf, of)].map(([text, value]) => [value, text]) : []),
      [Symbol.dispose]: () => {
        close(fd);
      },
    };
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** A pin without the hash of its map's layout. */
export const nameOfPin = (pin: string): string => pin.replace(/_[0-9a-f]+$/, '');

/** The types that were given to the kernel with a map. */
function kernelBtf(id: number, pin: string): Btf {
  const btf = libbpf.btfOfKernel(id);
  if (btf === null) throw libbpf.failure(`types of map ${pin}`);
  try {
    const size = new Uint32Array(1);
    const data = libbpf.btfData(btf, size);
    if (data === null) throw libbpf.failure(`types of map ${pin}`);
    return parseBtf(new Uint8Array(koffi.view(data, size[0]!)).slice());
  } finally {
    libbpf.btfFree(btf);
  }
}

import * as libbpf from './libbpf.ts';
import { close } from './libc.ts';
import type { BpfMap } from './map.ts';

const BATCH = 4096;

/**
 * A map of arrays of 32-bit numbers, two in each element (bpf/lib/maps.h): each array is written whole beside
 * the one it replaces and then exchanged for it, so that a reader sees one or the other. The exchange waits for
 * readers on another thread.
 */
export class TableMap {
  readonly #map: BpfMap<number, number>;

  constructor(map: BpfMap<number, number>) {
    if (!map.spec.inner) throw new Error(`map ${map.name} is no map of maps`);
    this.#map = map;
  }

  /** Keys that have a table. */
  keys(): number[] {
    return this.#map.keys();
  }

  async set(key: number, numbers: Uint32Array): Promise<void> {
    const inner = this.#map.spec.inner!;
    const pairs = Math.ceil(numbers.length / 2);
    const fd = libbpf.check(
      libbpf.mapCreate(
        inner.type,
        'maglev_table',
        { key: inner.key.size, value: inner.value.size },
        pairs,
        inner.flags,
      ),
      `map ${this.#map.name}: a table of ${numbers.length} entries`,
    );
    try {
      const values = new Uint32Array(pairs * 2);
      values.set(numbers);
      for (let start = 0; start < pairs; start += BATCH) {
        const count = Math.min(BATCH, pairs - start);
        const keys = Uint32Array.from({ length: count }, (_, at) => start + at);
        const result = libbpf.mapUpdateBatch(
          fd,
          new Uint8Array(keys.buffer),
          new Uint8Array(values.buffer, start * 8, count * 8),
          new Uint32Array([count]),
          null,
        );
        libbpf.check(result, `map ${this.#map.name}: fill a table`);
      }
      const result = await libbpf.mapUpdateLater(
        this.#map.fd,
        this.#map.encodeKey(key),
        new Uint8Array(new Uint32Array([fd]).buffer),
        0,
      );
      libbpf.check(result, `map ${this.#map.name}: exchange a table`);
    } finally {
      close(fd);
    }
  }

  async delete(key: number): Promise<void> {
    const ENOENT = 2;
    const result = await libbpf.mapDeleteLater(this.#map.fd, this.#map.encodeKey(key));
    if (result !== -ENOENT) libbpf.check(result, `map ${this.#map.name}: delete a table`);
  }
}

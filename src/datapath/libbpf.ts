/** libbpf.so.1 (1.1 and later), bound once. Every call is synchronous. Errors come back as -errno. */
import koffi from 'koffi';
import { SystemCallError } from './libc.ts';

const libbpf = koffi.load('libbpf.so.1');
const libc = koffi.load('libc.so.6');

/** An opaque pointer of libbpf's. */
export type Pointer = unknown;

export const objectOpen: (path: string, options: null) => Pointer | null = libbpf.func(
  'void *bpf_object__open_file(const char *path, const void *options)',
);
export const objectLoad: (object: Pointer) => number = libbpf.func('int bpf_object__load(void *object)');
export const objectClose: (object: Pointer) => void = libbpf.func('void bpf_object__close(void *object)');
export const findMap: (object: Pointer, name: string) => Pointer | null = libbpf.func(
  'void *bpf_object__find_map_by_name(void *object, const char *name)',
);
export const findProgram: (object: Pointer, name: string) => Pointer | null = libbpf.func(
  'void *bpf_object__find_program_by_name(void *object, const char *name)',
);
export const mapSetPinPath: (map: Pointer, path: string) => number = libbpf.func(
  'int bpf_map__set_pin_path(void *map, const char *path)',
);
export const mapSetMaxEntries: (map: Pointer, entries: number) => number = libbpf.func(
  'int bpf_map__set_max_entries(void *map, unsigned int entries)',
);
export const mapSetInitialValue: (map: Pointer, data: Uint8Array, size: number) => number = libbpf.func(
  'int bpf_map__set_initial_value(void *map, const void *data, size_t size)',
);
export const mapFd: (map: Pointer) => number = libbpf.func('int bpf_map__fd(void *map)');
export const programFd: (program: Pointer) => number = libbpf.func('int bpf_program__fd(void *program)');

const linkCreateFunction = libbpf.func(
  'int bpf_link_create(int program, int target, int type, const void *options)',
);
export const linkCreate: (program: number, target: number, type: number, options: null) => number =
  linkCreateFunction;
/** The same on a thread of libuv's pool: the kernel waits for an RCU grace period, many milliseconds. */
export const linkCreateLater = (program: number, target: number, type: number): Promise<number> =>
  new Promise((resolve, reject) =>
    linkCreateFunction.async(program, target, type, null, (error: unknown, result: number) =>
      error ? reject(error) : resolve(result),
    ),
  );
export const linkUpdate: (link: number, program: number, options: null) => number = libbpf.func(
  'int bpf_link_update(int link, int program, const void *options)',
);
/** struct bpf_link_create_opts of libbpf 1.1, as far as iterators use it. */
const IteratorOptions = koffi.struct('bpf_link_create_opts', {
  sz: 'size_t',
  flags: 'uint32_t',
  iter_info: 'const void *',
  iter_info_len: 'uint32_t',
  target_btf_id: 'uint32_t',
  rest: koffi.array('uint64_t', 4),
});
const iteratorLinkFunction = libbpf.func(
  'int bpf_link_create(int program, int target, int type, const bpf_link_create_opts *options)',
);
const BPF_TRACE_ITER = 28;
/** A link of an iterator program to the map whose rows it walks. */
export const iteratorLink = (program: number, map: number): number =>
  iteratorLinkFunction(program, 0, BPF_TRACE_ITER, {
    sz: koffi.sizeof(IteratorOptions),
    flags: 0,
    iter_info: new Uint32Array([map]),
    iter_info_len: 4,
    target_btf_id: 0,
    rest: [0, 0, 0, 0],
  });
/** One walk of it: a file that gives what the program wrote. */
export const iteratorCreate: (link: number) => number = libbpf.func('int bpf_iter_create(int link)');
export const programSetAutoload: (program: Pointer, load: boolean) => number = libbpf.func(
  'int bpf_program__set_autoload(void *program, bool load)',
);
export const pin: (fd: number, path: string) => number = libbpf.func(
  'int bpf_obj_pin(int fd, const char *path)',
);
export const openPin: (path: string) => number = libbpf.func('int bpf_obj_get(const char *path)');
export const infoByFd: (fd: number, info: Uint8Array, length: Uint32Array) => number = libbpf.func(
  'int bpf_obj_get_info_by_fd(int fd, void *info, void *length)',
);

export const btfOfKernel: (id: number) => Pointer | null = libbpf.func(
  'void *btf__load_from_kernel_by_id(uint32_t id)',
);
/** The types' bytes; they live as long as the BTF does. */
export const btfData: (btf: Pointer, size: Uint32Array) => Pointer | null = libbpf.func(
  'void *btf__raw_data(const void *btf, void *size)',
);
export const btfFree: (btf: Pointer) => void = libbpf.func('void btf__free(void *btf)');

export const mapLookup: (fd: number, key: Uint8Array, value: Uint8Array) => number = libbpf.func(
  'int bpf_map_lookup_elem(int fd, const void *key, void *value)',
);
export const mapUpdate: (fd: number, key: Uint8Array, value: Uint8Array, flags: number) => number =
  libbpf.func('int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)');
const mapUpdateFunction = libbpf.func(
  'int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)',
);
const mapDeleteFunction = libbpf.func('int bpf_map_delete_elem(int fd, const void *key)');
const later =
  <Args extends readonly unknown[]>(call: { async: (...all: unknown[]) => void }) =>
  (...args: Args): Promise<number> =>
    new Promise((resolve, reject) =>
      call.async(...args, (error: unknown, result: number) => (error ? reject(error) : resolve(result))),
    );
/** On a thread of libuv's pool: a change of a map of maps waits until no program uses what was there before. */
export const mapUpdateLater: (
  fd: number,
  key: Uint8Array,
  value: Uint8Array,
  flags: number,
) => Promise<number> = later(mapUpdateFunction);
export const mapDeleteLater: (fd: number, key: Uint8Array) => Promise<number> = later(mapDeleteFunction);

/** struct bpf_map_create_opts of libbpf 1.1. */
const MapCreateOptions = koffi.struct('bpf_map_create_opts', {
  sz: 'size_t',
  btf_fd: 'uint32_t',
  btf_key_type_id: 'uint32_t',
  btf_value_type_id: 'uint32_t',
  btf_vmlinux_value_type_id: 'uint32_t',
  inner_map_fd: 'uint32_t',
  map_flags: 'uint32_t',
  map_extra: 'uint64_t',
  numa_node: 'uint32_t',
  map_ifindex: 'uint32_t',
});
const mapCreateFunction = libbpf.func(
  'int bpf_map_create(int type, const char *name, uint32_t key, uint32_t value, uint32_t entries, const bpf_map_create_opts *options)',
);
/** A map of its own, without a pin; sizes in bytes. */
export const mapCreate = (
  type: number,
  name: string,
  sizes: { readonly key: number; readonly value: number },
  entries: number,
  flags: number,
): number =>
  mapCreateFunction(type, name, sizes.key, sizes.value, entries, {
    sz: koffi.sizeof(MapCreateOptions),
    btf_fd: 0,
    btf_key_type_id: 0,
    btf_value_type_id: 0,
    btf_vmlinux_value_type_id: 0,
    inner_map_fd: 0,
    map_flags: flags,
    map_extra: 0,
    numa_node: 0,
    map_ifindex: 0,
  });
export const mapDelete: (fd: number, key: Uint8Array) => number = libbpf.func(
  'int bpf_map_delete_elem(int fd, const void *key)',
);
export const mapNextKey: (fd: number, key: Uint8Array | null, next: Uint8Array) => number = libbpf.func(
  'int bpf_map_get_next_key(int fd, const void *key, void *next)',
);
export const mapUpdateBatch: (
  fd: number,
  keys: Uint8Array,
  values: Uint8Array,
  count: Uint32Array,
  options: null,
) => number = libbpf.func(
  'int bpf_map_update_batch(int fd, const void *keys, const void *values, void *count, const void *options)',
);
export const mapDeleteBatch: (fd: number, keys: Uint8Array, count: Uint32Array, options: null) => number =
  libbpf.func('int bpf_map_delete_batch(int fd, const void *keys, void *count, const void *options)');
export const mapLookupBatch: (
  fd: number,
  from: Uint8Array | null,
  next: Uint8Array,
  keys: Uint8Array,
  values: Uint8Array,
  count: Uint32Array,
  options: null,
) => number = libbpf.func(
  'int bpf_map_lookup_batch(int fd, void *from, void *next, void *keys, void *values, void *count, const void *options)',
);
export const possibleCpus: () => number = libbpf.func('int libbpf_num_possible_cpus()');

/** struct bpf_test_run_opts of libbpf 1.1. */
export const TestRunOptions = koffi.struct('bpf_test_run_opts', {
  sz: 'size_t',
  data_in: 'const void *',
  data_out: 'void *',
  data_size_in: 'uint32_t',
  data_size_out: 'uint32_t',
  ctx_in: 'const void *',
  ctx_out: 'void *',
  ctx_size_in: 'uint32_t',
  ctx_size_out: 'uint32_t',
  retval: 'uint32_t',
  repeat: 'int',
  duration: 'uint32_t',
  flags: 'uint32_t',
  cpu: 'uint32_t',
  batch_size: 'uint32_t',
});
export const programTestRun: (program: number, options: Record<string, unknown>) => number = libbpf.func(
  'int bpf_prog_test_run_opts(int program, _Inout_ bpf_test_run_opts *options)',
);

const vsnprintf: (out: Uint8Array, size: number, format: Pointer, list: Pointer) => number = libc.func(
  'int vsnprintf(void *out, size_t size, const void *format, void *list)',
);
const PrintCallback = koffi.proto('int libbpf_print(int level, const void *format, void *list)');
const setPrint: (callback: Pointer) => Pointer = libbpf.func(
  'void *libbpf_set_print(libbpf_print *callback)',
);

const DEBUG = 2;
const lines: string[] = [];
const scratch = new Uint8Array(1 << 20);

// Registered for good: libbpf keeps the pointer as long as the process lives.
setPrint(
  koffi.register((level: number, format: Pointer, list: Pointer): number => {
    if (level === DEBUG) return 0;
    const length = vsnprintf(scratch, scratch.length, format, list);
    lines.push(
      Buffer.from(scratch.subarray(0, Math.min(length, scratch.length - 1)))
        .toString('latin1')
        .trimEnd(),
    );
    return 0;
  }, koffi.pointer(PrintCallback)),
);

/** What libbpf said since the last call: the verifier's log among it. */
export const takeLog = (): string => lines.splice(0).join('\n');

/** Throws with the errno and libbpf's own words where `result` is an error; returns it otherwise. */
export function check(result: number, what: string): number {
  if (result < 0) throw new SystemCallError(what, -result, takeLog());
  return result;
}

/** The last errno, for calls that return a null pointer. */
export const lastErrno = (): number => koffi.errno();

/** The error of a call that returned a null pointer. */
export const failure = (what: string): SystemCallError => new SystemCallError(what, koffi.errno(), takeLog());

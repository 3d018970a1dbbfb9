import { createHash } from 'node:crypto';
import type { Btf } from './btf.ts';
import { type Layout, layoutOf } from './layout.ts';

/** A map as the object declares it (libbpf's BTF-defined maps in `.maps`). */
export interface MapSpec {
  readonly name: string;
  /** enum bpf_map_type. */
  readonly type: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly key: Layout;
  readonly value: Layout;
  /** Of a map of maps: what its elements are like; `value` is then a descriptor. */
  readonly inner?: Omit<MapSpec, 'name' | 'pin'>;
  /** Name below the pin folder: carries the layout, so that an upgrade can fill a changed map beside the old one. */
  readonly pin: string;
}

export const MAP_TYPE = {
  ARRAY: 2,
  HASH_OF_MAPS: 13,
  PERCPU_HASH: 5,
  PERCPU_ARRAY: 6,
  LRU_PERCPU_HASH: 10,
  SK_STORAGE: 24,
} as const;

const DESCRIPTOR: Layout = { kind: 'int', size: 4, signed: false, big: false };

/** The maps of `.maps`; `sizes` replaces max_entries by name. */
export function mapSpecs(btf: Btf, sizes: Readonly<Record<string, number>> = {}): readonly MapSpec[] {
  const section = btf.find(type => type.kind === 'section' && type.name === '.maps');
  if (section?.kind !== 'section') throw new Error('the object has no .maps section');
  return section.variables.map(id => specOf(btf, id, sizes));
}

function specOf(btf: Btf, id: number, sizes: Readonly<Record<string, number>>): MapSpec {
  const variable = btf[id];
  if (variable?.kind !== 'variable') throw new Error(`.maps: type ${id} is no map definition`);
  const spec = definitionOf(btf, variable.type, variable.name, sizes[variable.name]);
  const hash = createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 12);
  return { name: variable.name, ...spec, pin: `${variable.name}_${hash}` };
}

/** Of a map, or of the maps in a map. */
function definitionOf(
  btf: Btf,
  id: number,
  mapName: string,
  maxEntries: number | undefined,
): Omit<MapSpec, 'name' | 'pin'> {
  const definition = btf[id];
  if (definition?.kind !== 'struct') throw new Error(`.maps: type ${id} is no map definition`);
  const pointed = (name: string): number | undefined => {
    const member = definition.members.find(each => each.name === name);
    const pointer = member && btf[member.type];
    return pointer?.kind === 'pointer' ? pointer.type : undefined;
  };
  // __uint(name, 3) is declared as a pointer to an array of 3.
  const number = (name: string): number => {
    const array = btf[pointed(name) ?? 0];
    return array?.kind === 'array' ? array.length : 0;
  };
  const layout = (name: string): Layout => {
    const type = pointed(name);
    if (type === undefined) throw new Error(`map ${mapName} has no ${name} type`);
    return layoutOf(btf, type);
  };
  const common = {
    type: number('type'),
    maxEntries: maxEntries ?? number('max_entries'),
    flags: number('map_flags'),
    key: layout('key'),
  };
  // __array(values, struct inner) is declared as an array of pointers to it.
  const values = btf[definition.members.find(each => each.name === 'values')?.type ?? 0];
  const element = values?.kind === 'array' ? btf[values.element] : undefined;
  if (element?.kind !== 'pointer') return { ...common, value: layout('value') };
  return {
    ...common,
    value: DESCRIPTOR,
    inner: definitionOf(btf, element.type, `${mapName}.values`, undefined),
  };
}

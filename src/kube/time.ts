/** metav1.Time: RFC 3339 without fractions. */
export const timestamp = (at = new Date()): string => at.toISOString().replace(/\.\d+Z$/, 'Z');

/** metav1.MicroTime. */
export const microTime = (at = new Date()): string => at.toISOString().replace('Z', '000Z');

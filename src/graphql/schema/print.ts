/** Writes the schema that the code builds: `npm run schema`. */
import { printedSchema } from './schema.ts';

console.log(printedSchema().trimEnd());

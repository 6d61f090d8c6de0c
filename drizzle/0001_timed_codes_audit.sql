CREATE TABLE "audit" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"poll_id" text NOT NULL,
	"at" timestamp (3) with time zone NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"outcome" text NOT NULL,
	"detail" text,
	"more" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "voter_codes" (
	"poll_id" text NOT NULL,
	"voter_key" uuid NOT NULL,
	"used_at" timestamp (3) with time zone,
	CONSTRAINT "voter_codes_poll_id_voter_key_pk" PRIMARY KEY("poll_id","voter_key")
);
--> statement-breakpoint
DROP INDEX "polls_newest";--> statement-breakpoint
ALTER TABLE "polls" ADD COLUMN "owner" text;--> statement-breakpoint
CREATE INDEX "audit_poll" ON "audit" USING btree ("poll_id","id");--> statement-breakpoint
CREATE INDEX "audit_refused" ON "audit" USING btree ("poll_id","at") WHERE outcome <> 'ACCEPTED';--> statement-breakpoint
CREATE INDEX "polls_owner" ON "polls" USING btree ("owner");--> statement-breakpoint
CREATE INDEX "polls_opening" ON "polls" USING btree ("opens_at") WHERE status = 'DRAFT' AND opens_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "polls_closing" ON "polls" USING btree ("closes_at") WHERE status = 'OPEN' AND closes_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "polls_newest" ON "polls" USING btree ("created_at" DESC NULLS FIRST,"id");
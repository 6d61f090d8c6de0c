CREATE TABLE "ballots" (
	"poll_id" text NOT NULL,
	"voter_key" uuid NOT NULL,
	"receipt_id" uuid NOT NULL,
	"content" text NOT NULL,
	"replaced" text,
	"version" integer NOT NULL,
	"cast_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "ballots_poll_id_voter_key_pk" PRIMARY KEY("poll_id","voter_key")
);
--> statement-breakpoint
CREATE TABLE "polls" (
	"id" text PRIMARY KEY NOT NULL,
	"join_code" text NOT NULL,
	"question" text NOT NULL,
	"description" text,
	"kind" text NOT NULL,
	"choices" jsonb NOT NULL,
	"min_choices" integer NOT NULL,
	"max_choices" integer NOT NULL,
	"rating_scale" jsonb,
	"status" text NOT NULL,
	"voter_identity" text NOT NULL,
	"results_visibility" text NOT NULL,
	"allow_vote_change" boolean NOT NULL,
	"opens_at" timestamp (3) with time zone,
	"closes_at" timestamp (3) with time zone,
	"closed_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	"organizer_key_hash" text NOT NULL,
	"revision" integer DEFAULT 1 NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"ballot_count" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tallies" (
	"poll_id" text NOT NULL,
	"key" text NOT NULL,
	"votes" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "tallies_poll_id_key_pk" PRIMARY KEY("poll_id","key")
);
--> statement-breakpoint
CREATE UNIQUE INDEX "polls_join_code" ON "polls" USING btree ("join_code");--> statement-breakpoint
CREATE INDEX "polls_newest" ON "polls" USING btree ("created_at" DESC NULLS LAST,"id");--> statement-breakpoint
CREATE INDEX "polls_organizer" ON "polls" USING btree ("organizer_key_hash");
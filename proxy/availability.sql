-- name: blocked_services
select server, coalesce(reason, status) as why from services where not can_route;
